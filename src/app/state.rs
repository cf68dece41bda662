//! The state directory: the key that names credentials, so that a lane has the same name after a restart.

use crate::config::is_exposed;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use ring::rand::{SecureRandom, SystemRandom};

/// A key of credential hashes.
pub(super) type Key = [u8; KEY_BYTES];

/// Why there is no key that can be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Whoever reads the key can find a token behind a hash by trying.
    #[error("{path} can be read by other users: run `chmod 600 {path}`, or delete it (lanes then get new names)", path = .0.display())]
    Exposed(PathBuf),
    /// Not ours, or cut.
    #[error("{} is not a key of {KEY_BYTES} bytes: delete it to get a new one (lanes then get new names)", .0.display())]
    Malformed(PathBuf),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    NoRandomness,
}

/// Why the key cannot be kept; a key for this run will do.
#[derive(Debug, thiserror::Error)]
#[error("{} cannot be used: {cause}", path.display())]
pub(super) struct Unwritable {
    pub(super) path: PathBuf,
    cause: io::Error,
}

/// A key for this run only.
pub(super) fn new_key() -> Result<Key, StateError> {
    let mut key = [0; KEY_BYTES];
    SystemRandom::new().fill(&mut key).map_err(|_| StateError::NoRandomness)?;
    Ok(key)
}

/// The key in `directory`, made when there is none. The inner error: the directory cannot be used.
pub(super) fn kept_key(directory: &Path) -> Result<Result<Key, Unwritable>, StateError> {
    let path = directory.join(KEY_FILE);
    let kept = match File::open(&path) {
        Err(missing) if missing.kind() == ErrorKind::NotFound => {
            let key = new_key()?;
            match create(directory, &path, &key) {
                Ok(()) => return Ok(Ok(key)),
                // Another instance was quicker: its key is the one.
                Err(lost) if lost.kind() == ErrorKind::AlreadyExists => File::open(&path),
                Err(other) => Err(other),
            }
        }
        opened => opened,
    };
    match kept {
        Ok(file) => read(file, &path),
        Err(cause) => Ok(Err(Unwritable { path, cause })),
    }
}

/// Writes the key beside its place first, and links it there: no one ever sees half a key.
fn create(directory: &Path, path: &Path, key: &Key) -> io::Result<()> {
    private_directory(directory)?;
    let draft = directory.join(format!("{KEY_FILE}.{}", std::process::id()));
    let written = private_file(&draft)
        .and_then(|mut file| file.write_all(key).and_then(|()| file.sync_all()))
        .and_then(|()| fs::hard_link(&draft, path));
    fs::remove_file(&draft).and(written)
}

fn read(mut file: File, path: &Path) -> Result<Result<Key, Unwritable>, StateError> {
    let unusable = |cause| Unwritable { path: path.to_owned(), cause };
    match file.metadata() {
        Ok(about) if is_exposed(&about.permissions()) => return Err(StateError::Exposed(path.to_owned())),
        Ok(about) if about.len() != KEY_BYTES as u64 => return Err(StateError::Malformed(path.to_owned())),
        Ok(_) => (),
        Err(cause) => return Ok(Err(unusable(cause))),
    }
    let mut key = [0; KEY_BYTES];
    Ok(file.read_exact(&mut key).map(|()| key).map_err(unusable))
}

/// Makes a directory for its owner alone, if there is none.
#[cfg(unix)]
pub(super) fn private_directory(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Makes a directory, if there is none.
#[cfg(not(unix))]
pub(super) fn private_directory(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

/// A new file for its owner alone.
pub(super) fn private_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

const KEY_FILE: &str = "credential.key";
const KEY_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_is_made_once_for_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("a/b");
        let first = kept_key(&state).unwrap().unwrap();
        assert_eq!(kept_key(&state).unwrap().unwrap(), first);
        assert_ne!(new_key().unwrap(), first);
        let file = fs::metadata(state.join(KEY_FILE)).unwrap();
        assert_eq!(file.permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&state).unwrap().count(), 1, "no draft stays behind");
    }

    #[test]
    fn instances_that_start_together_agree() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(KEY_FILE);
        fs::create_dir_all(directory.path()).unwrap();
        create(directory.path(), &path, &[1; KEY_BYTES]).unwrap();
        let late = create(directory.path(), &path, &[2; KEY_BYTES]).unwrap_err();
        assert_eq!(late.kind(), ErrorKind::AlreadyExists);
        assert_eq!(kept_key(directory.path()).unwrap().unwrap(), [1; KEY_BYTES]);
    }

    #[test]
    fn a_key_that_others_can_read_is_refused_and_so_is_one_of_another_length() {
        let directory = tempfile::tempdir().unwrap();
        kept_key(directory.path()).unwrap().unwrap();
        let path = directory.path().join(KEY_FILE);
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let error = kept_key(directory.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("chmod 600 {}", path.display())), "{error}");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "short").unwrap();
        let error = kept_key(directory.path()).unwrap_err().to_string();
        assert!(error.contains("delete it"), "{error}");
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_no_reason_to_stop() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(kept_key(&file.join("state")).unwrap().is_err());
    }
}
