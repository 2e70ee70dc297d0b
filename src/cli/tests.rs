//! What a person types on the command line, and what is made of it.

use std::time::Duration;

use clap::{CommandFactory, Parser};

use super::mock::Cost;
use super::{Arguments, Command, IoChoice};

#[test]
fn the_arguments_are_consistent() {
    Arguments::command().debug_assert();
}

#[test]
fn what_a_person_types() {
    let arguments = Arguments::try_parse_from(["headrace", "serve", "--config", "a.toml", "--shards", "2", "--io", "epoll"]).unwrap();
    let Command::Serve(serve) = arguments.command else { panic!("not serve") };
    assert_eq!((serve.shards, serve.io), (Some(2), Some(IoChoice::Epoll)));

    let arguments = Arguments::try_parse_from(["headrace", "mock", "--listen", "unix:/tmp/m.sock", "--cost", "5ms+0.1ms"]).unwrap();
    let Command::Mock(mock) = arguments.command else { panic!("not mock") };
    assert_eq!(mock.cost, Cost { fixed: Duration::from_millis(5), per_item: Duration::from_micros(100) });

    for good in
        [&["headrace", "check", "a.toml", "-o", "json"][..], &["headrace", "check", "--schema"], &["headrace", "doctor", "-o", "json"]]
    {
        assert!(Arguments::try_parse_from(good).is_ok(), "{good:?}");
    }
    for (bad, why) in [
        (&["headrace", "serve"][..], "no configuration"),
        (&["headrace", "serve", "--config", "a", "--shards", "0"], "no shard"),
        (&["headrace", "serve", "--config", "a", "--io", "kqueue"], "no such driver"),
        (&["headrace", "check"], "no file"),
        (&["headrace", "mock", "--cost", "5"], "no unit"),
        (&["headrace", "mock", "--listen", "localhost:1"], "a name"),
        (&["headrace", "sing"], "no such command"),
    ] {
        assert_eq!(Arguments::try_parse_from(bad).unwrap_err().exit_code(), 2, "{why}");
    }
}
