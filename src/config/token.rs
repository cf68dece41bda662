//! The file with the bearer token of the admin API: private, and with one token in it.

use super::Secret;
use std::fs::{File, Permissions};
use std::io::Read;
use std::path::Path;

/// The token in the file at `path`.
///
/// # Errors
/// What is wrong with the file and what to do. The path is not repeated: someone may have written the token itself.
pub(super) fn token(path: &Path) -> Result<Secret, String> {
    let unreadable =
        |error: std::io::Error| format!("the file cannot be read: {error}; it holds the token alone");
    let mut file = File::open(path).map_err(unreadable)?;
    if is_exposed(&file.metadata().map_err(unreadable)?.permissions()) {
        return Err(
            "the file can be read by other users: run chmod 600 on it, and take a new token".to_owned()
        );
    }
    let mut text = String::new();
    file.by_ref().take(LENGTH_MAX + 1).read_to_string(&mut text).map_err(unreadable)?;
    let token = text.trim();
    let is_token = !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic());
    if !is_token || text.len() as u64 > LENGTH_MAX {
        return Err(format!(
            "the file holds no token: write one line of letters, digits and signs without spaces, {LENGTH_MAX} at \
             most, such as what `openssl rand -hex 32` prints"
        ));
    }
    Ok(Secret::new(token.to_owned()))
}

/// Can others than its owner read such a file?
#[cfg(unix)]
pub fn is_exposed(permissions: &Permissions) -> bool {
    use std::os::unix::fs::PermissionsExt;
    permissions.mode() & 0o077 != 0
}

/// Can others than its owner read such a file? Nobody knows here.
#[cfg(not(unix))]
pub fn is_exposed(_: &Permissions) -> bool {
    false
}

const LENGTH_MAX: u64 = 4_096;

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, set_permissions};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_token_is_read_from_a_private_file_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        assert!(token(&path).unwrap_err().contains("cannot be read"));
        fs::write(&path, "s3cret-token\n").unwrap();
        set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        assert!(token(&path).unwrap_err().contains("chmod 600"));
        set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(token(&path).unwrap().reveal(), "s3cret-token");
        for text in ["", "\n", "two words", "s3cret\nmore", &"x".repeat(5_000)] {
            fs::write(&path, text).unwrap();
            let error = token(&path).unwrap_err();
            assert!(error.contains("holds no token") && !error.contains("s3cret"), "{error}");
        }
        fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(token(&path).is_err());
    }
}
