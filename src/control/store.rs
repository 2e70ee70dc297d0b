//! What a process keeps on disk: the last good configurations (the one in force and the one before it, as text, for `headrace
//! rollback`) and where rollouts stand (`kept`, for the next process). What is written is whole or not there (a file beside it, synced,
//! then renamed); what cannot be written is told and harms nothing.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A folder with at most four files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigStore {
    folder: PathBuf,
}

impl ConfigStore {
    #[must_use]
    pub fn new(folder: &Path) -> ConfigStore {
        ConfigStore { folder: folder.to_owned() }
    }

    /// Keeps a configuration that was taken; the one kept before becomes the previous one.
    ///
    /// # Errors
    /// What the disk says. What was kept is as it was, or one step behind.
    pub fn keep(&self, text: &str) -> io::Result<()> {
        std::fs::create_dir_all(&self.folder)?;
        if self.current()?.as_deref() == Some(text) {
            return Ok(());
        }
        let (current, fresh) = (self.path(CURRENT), self.path(FRESH));
        if !current.exists() && fresh.exists() {
            // The process ended between the two renames below.
            std::fs::rename(&fresh, &current)?;
        }
        write_synced(&fresh, text)?;
        if current.exists() {
            std::fs::rename(&current, self.path(PREVIOUS))?;
        }
        std::fs::rename(&fresh, &current)?;
        File::open(&self.folder)?.sync_all()
    }

    /// The configuration that was taken last.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn current(&self) -> io::Result<Option<String>> {
        match self.read(CURRENT)? {
            None => self.read(FRESH),
            text => Ok(text),
        }
    }

    /// The one before it.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn previous(&self) -> io::Result<Option<String>> {
        self.read(PREVIOUS)
    }

    /// Keeps where rollouts stand.
    ///
    /// # Errors
    /// What the disk says. What was kept is as it was.
    pub fn keep_rollouts(&self, text: &str) -> io::Result<()> {
        std::fs::create_dir_all(&self.folder)?;
        replace_file(&self.path(ROLLOUTS), text)
    }

    /// Where rollouts stood.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn rollouts(&self) -> io::Result<Option<String>> {
        self.read(ROLLOUTS)
    }

    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    #[expect(clippy::disallowed_methods, reason = "control may wait for a file")]
    fn read(&self, name: &str) -> io::Result<Option<String>> {
        match std::fs::read_to_string(self.path(name)) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// Puts `text` in place of a file: whoever reads it finds the old or the new one, whole, also after a power cut.
///
/// # Errors
/// What the disk says; the file is as it was.
pub fn replace_file(path: &Path, text: &str) -> io::Result<()> {
    // A link stays a link: what it points to is replaced.
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let beside = path.with_extension(format!("{}.tmp", std::process::id()));
    let written = write_synced(&beside, text).and_then(|()| {
        if let Ok(metadata) = std::fs::metadata(&path) {
            std::fs::set_permissions(&beside, metadata.permissions())?;
        }
        std::fs::rename(&beside, &path)
    });
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    written
}

fn write_synced(path: &Path, text: &str) -> io::Result<()> {
    let mut file = File::create(path)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    if written.is_err() {
        // Half a file is of no use, and the disk may be full.
        let _ = std::fs::remove_file(path);
    }
    written
}

const CURRENT: &str = "current.toml";
const PREVIOUS: &str = "previous.toml";
const ROLLOUTS: &str = "rollouts.json";
const FRESH: &str = "current.toml.new";

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test may wait for files")]
mod tests {
    use super::{ConfigStore, FRESH, replace_file};

    fn folder(name: &str) -> std::path::PathBuf {
        std::env::temp_dir().join(format!("headrace-store-{}-{name}", std::process::id()))
    }

    #[test]
    fn the_last_two_are_kept() {
        let folder = folder("two");
        let store = ConfigStore::new(&folder);
        assert_eq!((store.current().unwrap(), store.previous().unwrap()), (None, None));
        for (text, current, previous) in [("a", "a", None), ("b", "b", Some("a")), ("b", "b", Some("a")), ("c", "c", Some("b"))] {
            store.keep(text).unwrap();
            assert_eq!((store.current().unwrap().as_deref(), store.previous().unwrap().as_deref()), (Some(current), previous));
        }
        // As if the process had ended between its renames.
        std::fs::rename(folder.join("current.toml"), folder.join(FRESH)).unwrap();
        assert_eq!(store.current().unwrap().as_deref(), Some("c"));
        store.keep("d").unwrap();
        assert_eq!((store.current().unwrap().as_deref(), store.previous().unwrap().as_deref()), (Some("d"), Some("c")));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_full_disk_leaves_what_was_kept() {
        let folder = folder("full");
        let store = ConfigStore::new(&folder);
        store.keep("good").unwrap();
        // /dev/full takes nothing.
        std::os::unix::fs::symlink("/dev/full", folder.join(FRESH)).unwrap();
        assert!(store.keep("next").is_err());
        assert_eq!((store.current().unwrap().as_deref(), store.previous().unwrap()), (Some("good"), None));
        store.keep("next").unwrap();
        assert_eq!(store.current().unwrap().as_deref(), Some("next"));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_replaced_file_keeps_its_mode_and_its_link() {
        use std::os::unix::fs::PermissionsExt;
        let folder = folder("replace");
        std::fs::create_dir_all(&folder).unwrap();
        let (file, link) = (folder.join("real.toml"), folder.join("link.toml"));
        std::fs::write(&file, "old").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        replace_file(&link, "new").unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "new");
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 2);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
