//! placeholder: json
