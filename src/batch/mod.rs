//! placeholder: batch
