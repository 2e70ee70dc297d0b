//! placeholder: shard
