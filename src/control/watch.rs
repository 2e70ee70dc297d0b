//! Whether the configuration's file has changed and come to rest. It looks at the file now and then; what it means is `supervise`'s.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// What tells one state of a file from another: device, inode, size, time of change in nanoseconds.
type Print = (u64, u64, u64, i128);

#[derive(Default, Debug)]
pub(super) struct Watch {
    known: Option<Print>,
    changed: Option<Print>,
}

impl Watch {
    /// True when the file was changed and has been the same for two looks: an editor that writes it in pieces is done. A file that
    /// is not there for a moment (it is being replaced) is no change.
    pub(super) fn look(&mut self, path: &Path) -> bool {
        let print = std::fs::metadata(path).ok().map(|file| {
            let nanos = i128::from(file.mtime()) * 1_000_000_000 + i128::from(file.mtime_nsec());
            (file.dev(), file.ino(), file.size(), nanos)
        });
        print.is_some_and(|print| self.handle_print(print))
    }

    fn handle_print(&mut self, print: Print) -> bool {
        let Some(known) = self.known else {
            self.known = Some(print);
            return false;
        };
        if print == known {
            self.changed = None;
            return false;
        }
        if self.changed != Some(print) {
            self.changed = Some(print);
            return false;
        }
        (self.known, self.changed) = (Some(print), None);
        true
    }
}

/// Between two looks: a change holds after one to two of these.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::Watch;

    #[test]
    fn a_change_is_told_once_when_it_has_come_to_rest() {
        let mut watch = Watch::default();
        let states = [(1, false), (1, false), (2, false), (3, false), (3, true), (3, false), (4, false), (3, false), (4, false), (4, true)];
        for (step, (size, told)) in states.into_iter().enumerate() {
            assert_eq!(watch.handle_print((0, 0, size, 0)), told, "step {step}");
        }
    }
}
