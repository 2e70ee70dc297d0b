//! placeholder: control
