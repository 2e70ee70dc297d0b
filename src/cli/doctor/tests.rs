//! Findings about machines we do not have.

use super::{State, cores_allowed, examine, io_uring, kernel, memlock_limit, nofile_limit, quota, seccomp_state, somaxconn, status_field};

#[test]
fn kernels() {
    for (release, state) in [
        (Some("6.18.0-1-generic\n"), State::Ok),
        (Some("6.6.0"), State::Ok),
        (Some("7.0-rc1"), State::Ok),
        (Some("6.1.0-18-amd64"), State::Warn),
        (Some("5.15.0"), State::Warn),
        (Some("what"), State::Warn),
        (None, State::Warn),
    ] {
        assert_eq!(kernel(release).state, state, "{release:?}");
    }
}

#[test]
fn a_refused_ring_says_who_refused_it() {
    assert_eq!(io_uring(None, true, Some("0\n")).state, State::Ok);
    for (errno, disabled, word) in [
        (libc::EPERM, Some("2\n"), "everyone"),
        (libc::EPERM, Some("1\n"), "CAP_SYS_ADMIN"),
        (libc::EPERM, Some("0\n"), "seccomp"),
        (libc::EPERM, None, "seccomp"),
        (libc::ENOSYS, None, "not in this kernel"),
        (libc::EINVAL, Some("0\n"), "flags"),
        (libc::ENOMEM, Some("0\n"), "locked"),
        (libc::EMFILE, Some("0\n"), "cannot be made"),
    ] {
        let finding = io_uring(Some(errno), false, disabled);
        assert_eq!(finding.state, State::Warn);
        assert!(finding.found.contains(word), "{errno} {disabled:?}: {}", finding.found);
        assert!(!finding.mend.is_empty());
    }
}

#[test]
fn limits() {
    assert_eq!(memlock_limit(None).state, State::Ok);
    assert_eq!(memlock_limit(Some(8 << 20)).state, State::Ok);
    assert_eq!(memlock_limit(Some(64 << 10)).state, State::Warn);
    assert_eq!(nofile_limit(None, None).state, State::Ok);
    assert_eq!(nofile_limit(Some(1 << 20), Some(1 << 20)).state, State::Ok);
    assert_eq!(nofile_limit(Some(1024), Some(1 << 20)).state, State::Warn);
    assert_eq!(nofile_limit(Some(256), Some(256)).state, State::Bad);
    assert_eq!(somaxconn(Some("4096\n")).state, State::Ok);
    assert_eq!(somaxconn(Some("128\n")).state, State::Warn);
    assert_eq!(somaxconn(None).state, State::Warn);
}

#[test]
fn cores_and_quota() {
    assert!(cores_allowed(2, Some(8)).found.contains("2 of 8"));
    assert_eq!(cores_allowed(0, None).state, State::Warn);
    assert_eq!(quota(8, None).state, State::Ok);
    assert_eq!(quota(2, Some(2.0)).state, State::Ok);
    let tight = quota(8, Some(1.5));
    assert_eq!(tight.state, State::Warn);
    assert!(tight.found.contains("2 shards"), "{}", tight.found);
}

#[test]
fn seccomp() {
    let status = "Name:\theadrace\nSeccomp:\t2\nSeccomp_filters:\t1\n";
    assert_eq!(status_field(status, "Seccomp").as_deref(), Some("2"));
    assert_eq!(seccomp_state(Some("0"), false).state, State::Ok);
    assert_eq!(seccomp_state(Some("2"), true).state, State::Ok);
    assert_eq!(seccomp_state(Some("2"), false).state, State::Warn);
    assert_eq!(seccomp_state(None, false).state, State::Warn);
}

#[test]
fn every_warning_here_says_how_to_mend_it() {
    let findings = examine();
    assert_eq!(findings.len(), 8);
    for finding in findings {
        assert_eq!(finding.state == State::Ok, finding.mend.is_empty(), "{finding:?}");
    }
}
