//! What a process of the load test asks of the machine before it begins: a core, and room for descriptors.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};

/// Pins this process to `core`, where one is named, and raises its limit on open files as far as it may.
///
/// # Errors
/// For a person: the core is not there, or not for this process.
pub(crate) fn prepare(core: Option<usize>) -> Result<(), String> {
    if let Some(core) = core {
        if core >= CpuSet::MAX_CPU {
            return Err(format!("--core {core}: the highest is {}", CpuSet::MAX_CPU - 1));
        }
        let mut set = CpuSet::new();
        set.set(core);
        sched_setaffinity(None, &set).map_err(|error| format!("--core {core}: {error}; `nproc` tells how many there are, from 0 on"))?;
    }
    let limit = getrlimit(Resource::Nofile);
    // Refused: then the limit stays as it is, and who needs more says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    Ok(())
}

/// Whether this process may have `connections` open, and a few files beside them.
///
/// # Errors
/// For a person: how many it may have and how to get more.
pub(crate) fn room_for(connections: u64) -> Result<(), String> {
    match getrlimit(Resource::Nofile).current {
        Some(most) if most < connections + FILES_BESIDE => Err(format!(
            "{connections} connections need {} open files and this process may have {most}: raise the hard limit (`ulimit -Hn`, \
             LimitNOFILE= of the unit, nofile in limits.conf) or ask for fewer",
            connections + FILES_BESIDE
        )),
        Some(_) | None => Ok(()),
    }
}

/// Standard streams, rings, event descriptors, what the allocator and the clock opened.
const FILES_BESIDE: u64 = 64;

#[cfg(test)]
mod tests {
    use super::{prepare, room_for};

    #[test]
    fn what_cannot_be_had_is_said() {
        assert!(room_for(1).is_ok());
        let error = room_for(1 << 60).err();
        assert!(error.as_ref().is_none_or(|text| text.contains("ulimit")), "{error:?}");
        assert!(prepare(Some(1 << 20)).is_err());
        assert!(prepare(None).is_ok());
    }
}
