//! How many files may be open? As many as the system lets us, and client connections take less than half of them.

/// Raises the limit of open files as far as it goes, and returns how many client connections fit: each may need one
/// to the upstream as well, and some files are for ourselves.
#[cfg(unix)]
pub(super) fn connections_max(wanted: usize) -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::debug!(%error, "the limit of open files stays as it is");
            limit.current
        }
    };
    let fits = current.map_or(usize::MAX, |files| fitting(usize::try_from(files).unwrap_or(usize::MAX)));
    if fits < wanted {
        tracing::info!(
            open_files_max = current,
            connections_max = fits,
            "client connections are bounded by the limit of open files; to have more, raise it (ulimit -Hn)"
        );
    }
    wanted.min(fits)
}

/// No such limit here.
#[cfg(not(unix))]
pub(super) fn connections_max(wanted: usize) -> usize {
    wanted
}

#[cfg(unix)]
fn fitting(files: usize) -> usize {
    (files.saturating_sub(OWN_FILES) / 2).max(1)
}

/// Listeners, the runtime's own, admin connections, DNS look-ups.
#[cfg(unix)]
const OWN_FILES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_take_less_than_half_of_the_files() {
        assert_eq!(fitting(1_024), 480);
        assert_eq!(fitting(64), 1);
        assert_eq!(fitting(0), 1);
        assert_eq!(connections_max(1), 1);
    }
}
