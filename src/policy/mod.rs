//! placeholder: policy
