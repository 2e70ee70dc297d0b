//! placeholder: mesh
