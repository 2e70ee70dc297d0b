//! placeholder: mock
