//! Reading inputs and writing outputs so that nothing is lost and nothing half-written remains.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::{Error, ErrorKind};

/// Largest input that is read, in bytes. The largest real objects are a few MiB.
const MAX_INPUT: u64 = 256 << 20;

/// Reads a whole input file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let (file, length) = open(path)?;
    // With room for all, the bytes are never moved: of a key, no copy stays behind.
    let mut bytes = Vec::with_capacity(length.min(MAX_INPUT) as usize + 1);
    file.take(MAX_INPUT + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| read_failed(path, source))?;
    if bytes.len() as u64 > MAX_INPUT {
        return Err(ErrorKind::InputTooLarge {
            path: path.to_owned(),
            limit: MAX_INPUT,
        }
        .into());
    }
    Ok(bytes)
}

/// An error if a file can't be read.
pub(crate) fn readable(path: &Path) -> Result<(), Error> {
    open(path).map(|_| ())
}

/// Opens a file to be read. Gives its length, too, as far as it has one.
fn open(path: &Path) -> Result<(File, u64), Error> {
    // A folder opens on some hosts and only fails at the first read; on others it does not open, because access to it is
    // denied. Neither message says what is wrong.
    let file = File::open(path).map_err(|error| {
        let source = if path.is_dir() { is_a_folder() } else { error };
        read_failed(path, source)
    })?;
    // Devices and pipes of Windows have none, and can be read all the same.
    let metadata = file.metadata().ok();
    if metadata.as_ref().is_some_and(fs::Metadata::is_dir) {
        return Err(read_failed(path, is_a_folder()));
    }
    Ok((file, metadata.map_or(0, |metadata| metadata.len())))
}

/// Text in UTF-8, or in UTF-16 with a byte order mark, as Windows PowerShell writes what is redirected to a file.
pub(crate) fn text(bytes: Vec<u8>) -> Option<String> {
    if let Some(wide) = bytes.strip_prefix(&[0xFF, 0xFE]) {
        let (units, []) = wide.as_chunks::<2>() else {
            return None;
        };
        let units: Vec<u16> = units.iter().map(|unit| u16::from_le_bytes(*unit)).collect();
        return String::from_utf16(&units).ok();
    }
    let text = String::from_utf8(bytes).ok()?;
    Some(match text.strip_prefix('\u{feff}') {
        Some(text) => text.to_owned(),
        None => text,
    })
}

fn is_a_folder() -> io::Error {
    io::Error::from(io::ErrorKind::IsADirectory)
}

fn read_failed(path: &Path, source: io::Error) -> Error {
    let path = path.to_owned();
    ErrorKind::ReadFile { path, source }.into()
}

/// A path with something behind its last name.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Whether both paths name one existing file.
pub(crate) fn same_file(a: &Path, b: &Path) -> bool {
    matches!((fs::canonicalize(a), fs::canonicalize(b)), (Ok(a), Ok(b)) if a == b)
}

/// The same for two paths if they name one file, there or not, as far as their letters tell: Windows and macOS tell no
/// difference between letters by their case.
pub(crate) fn name_key(path: &Path) -> PathBuf {
    name_key_of(path, cfg!(any(windows, target_os = "macos")))
}

fn name_key_of(path: &Path, folds_case: bool) -> PathBuf {
    if folds_case {
        path.to_string_lossy().to_lowercase().into()
    } else {
        path.to_owned()
    }
}

/// Writes files: all of them completely, or none. Until all are ready, what was there before is there; should putting one
/// in place fail after that, files that were not there before are removed again.
pub(crate) fn write_all(files: &[(&Path, &[u8])]) -> Result<(), Error> {
    let files: Vec<_> = files.iter().map(|(path, bytes)| (*path, *bytes, Access::All)).collect();
    write_with_access(&files)
}

/// Writes those files that do not have these contents yet, as [`write_all`] does; what is not written keeps its time, so that
/// what is made of it need not be made again. Tells of each whether it was written.
pub(crate) fn update_all(files: &[(&Path, &[u8])]) -> Result<Vec<bool>, Error> {
    let changed: Vec<bool> = files.iter().map(|(path, bytes)| !holds(path, bytes)).collect();
    let (changed_files, _): (Vec<_>, Vec<_>) = (files.iter().zip(&changed)).partition(|(_, changed)| **changed);
    let changed_files: Vec<(&Path, &[u8])> = changed_files.into_iter().map(|(file, _)| *file).collect();
    write_all(&changed_files)?;
    Ok(changed)
}

/// Whether a regular file has these bytes. One that can't be read is to be written: that tells why.
fn holds(path: &Path, bytes: &[u8]) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() == bytes.len() as u64)
        && fs::read(path).is_ok_and(|before| before == bytes)
}

/// Who may read a file that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Whom the user's defaults let read it.
    All,
    /// The user alone, where the system can say so.
    Owner,
}

/// Makes a folder, and those above it, where they are not there.
pub(crate) fn create_folder(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(|source| {
        let path = path.to_owned();
        ErrorKind::WriteFile { path, source }.into()
    })
}

/// Writes files as [`write_all`] does, each for those who may read it.
pub(crate) fn write_with_access(files: &[(&Path, &[u8], Access)]) -> Result<(), Error> {
    let mut ready = Vec::with_capacity(files.len());
    for (path, bytes, access) in files {
        ready.push(prepare(path, bytes, *access).map_err(|source| failed(path, source))?);
    }
    let mut new = Vec::new();
    for (prepared, (path, bytes, _)) in ready.into_iter().zip(files) {
        match prepared.finish(bytes) {
            Ok(created) => new.extend(created),
            Err(source) => {
                for path in new {
                    // The first failure is what matters.
                    let _ = fs::remove_file(path);
                }
                return Err(failed(path, source));
            }
        }
    }
    Ok(())
}

/// An output that only has to be put in its place.
enum Prepared {
    /// A complete file beside its place.
    File {
        file: tempfile::NamedTempFile,
        target: PathBuf,
    },
    /// A device or a pipe.
    Device(PathBuf),
}

impl Prepared {
    /// Puts it in place. Gives the path if nothing was there before.
    fn finish(self, bytes: &[u8]) -> io::Result<Option<PathBuf>> {
        match self {
            Prepared::File { file, target } => {
                let new = !target.exists();
                let (file, path) = file.into_parts();
                drop(file); // on Windows, a file that is open is not always moved
                // Not through the library, which knows no long paths on Windows. When its own path is dropped, no file has
                // that name any more.
                fs::rename(&path, &target)?;
                Ok(new.then_some(target))
            }
            Prepared::Device(target) => {
                File::options().write(true).open(&target)?.write_all(bytes)?;
                Ok(None)
            }
        }
    }
}

/// A file that is written piece by piece. As with [`write_all`], what was there before is there until all is written.
pub(crate) struct Stream {
    path: PathBuf,
    prepared: Prepared,
    device: Option<File>,
}

impl Stream {
    pub(crate) fn create(path: &Path) -> Result<Stream, Error> {
        let begin = || {
            let prepared = prepare(path, &[], Access::All)?;
            let device = match &prepared {
                Prepared::File { .. } => None,
                Prepared::Device(target) => Some(File::options().write(true).open(target)?),
            };
            Ok(Stream {
                path: path.to_owned(),
                prepared,
                device,
            })
        };
        begin().map_err(|source| failed(path, source))
    }

    /// Puts the file in its place.
    pub(crate) fn finish(self) -> Result<(), Error> {
        let Stream { path, prepared, .. } = self;
        let finish = || match &prepared {
            // A full disk may show only here.
            Prepared::File { file, .. } => file.as_file().sync_all(),
            Prepared::Device(_) => Ok(()),
        };
        finish().map_err(|source| failed(&path, source))?;
        match prepared {
            Prepared::Device(_) => Ok(()),
            file @ Prepared::File { .. } => file.finish(&[]).map(drop).map_err(|source| failed(&path, source)),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match (&mut self.device, &mut self.prepared) {
            (Some(device), _) => device.write(bytes),
            (None, Prepared::File { file, .. }) => file.as_file_mut().write(bytes),
            (None, Prepared::Device(_)) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn failed(path: &Path, source: io::Error) -> Error {
    let path = path.to_owned();
    ErrorKind::WriteFile { path, source }.into()
}

/// Whether the name of an output means a device on Windows, which has devices in every folder: `nul`, and up to Windows 10
/// `nul.sys`, too. `absolute` is the path that Windows makes of the name. An error if that is hardly meant.
#[cfg(any(windows, test))]
fn is_device_of_windows(name: &str, absolute: &str) -> io::Result<bool> {
    if !absolute.starts_with(r"\\.\") {
        return Ok(false);
    }
    let name = name.replace('/', r"\");
    let last = name.rsplit('\\').next().unwrap_or_default();
    if name.starts_with(r"\\.\") || last.eq_ignore_ascii_case("nul") {
        return Ok(true);
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidFilename,
        format!("Windows has a device `{}` of this name", &absolute[4..]),
    ))
}

fn prepare(path: &Path, bytes: &[u8], access: Access) -> io::Result<Prepared> {
    #[cfg(windows)]
    if is_device_of_windows(&path.to_string_lossy(), &std::path::absolute(path)?.to_string_lossy())? {
        return Ok(Prepared::Device(path.to_owned()));
    }
    // What is written to is the file behind a symbolic link; a rename would replace the link itself.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let before = fs::metadata(&target).ok();
    match &before {
        Some(found) if found.is_dir() => return Err(is_a_folder()),
        // A device or a pipe (`/dev/null`, `/dev/stdout`) takes the bytes itself: there is nothing to lose.
        Some(found) if !found.is_file() => return Ok(Prepared::Device(target)),
        _ => {}
    }
    let folder = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    if !folder.is_dir() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "its folder does not exist"));
    }
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        // For all, as `open` would create it: the umask is applied.
        options.mode(if access == Access::All { 0o666 } else { 0o600 });
    }
    #[cfg(not(unix))]
    let _ = (access, before); // files inherit the access of their folder
    let mut file = tempfile::Builder::new()
        .prefix(".bpf2sys-")
        .suffix(".tmp")
        // The library's own way gives the file an attribute on Windows that only the library takes off again.
        .make_in(folder, |path| options.open(path))
        // Its error names the temporary file, which tells the user nothing.
        .map_err(|e| io::Error::from(e.kind()))?;
    // Those who could read the file that was there can read the new one, and nobody else.
    #[cfg(unix)]
    if let (Access::All, Some(before)) = (access, before) {
        file.as_file().set_permissions(before.permissions())?;
    }
    // Not through the library, whose error names the temporary file here, too.
    file.as_file_mut().write_all(bytes)?;
    // A full disk may show only here.
    file.as_file().sync_all()?;
    Ok(Prepared::File { file, target })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
        write_all(&[(path, bytes)])
    }

    #[test]
    fn if_one_of_several_cannot_be_written_none_is() {
        let folder = tempfile::tempdir().unwrap();
        let (new, old) = (folder.path().join("new"), folder.path().join("old"));
        fs::write(&old, b"before").unwrap();
        let missing = folder.path().join("no").join("file");
        let files: [(&Path, &[u8]); 3] = [(&new, b"one"), (&old, b"two"), (&missing, b"three")];
        assert!(write_all(&files).is_err());
        assert_eq!(fs::read(&old).unwrap(), b"before");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_is_replaced_keeps_its_permissions_unless_it_is_the_owners() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        fs::write(&path, b"before").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        write(&path, b"after").unwrap();
        assert_eq!((fs::read(&path).unwrap(), mode()), (b"after".to_vec(), 0o640));
        write_with_access(&[(&path, b"key", Access::Owner)]).unwrap();
        assert_eq!(mode(), 0o600);
    }

    #[test]
    fn a_stream_is_there_when_it_is_finished_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, b"before").unwrap();
        let mut stream = Stream::create(&path).unwrap();
        stream.write_all(b"one").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"before");
        drop(stream);
        assert_eq!(fs::read(&path).unwrap(), b"before");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let mut stream = Stream::create(&path).unwrap();
        stream.write_all(b"one").unwrap();
        stream.write_all(b"two").unwrap();
        stream.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"onetwo");
        assert!(Stream::create(&folder.path().join("no").join("file")).is_err());
    }

    #[test]
    fn what_has_not_changed_keeps_its_time() {
        let folder = tempfile::tempdir().unwrap();
        let [same, other, new] = ["same", "other", "new"].map(|name| folder.path().join(name));
        let long_ago = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
        for file in [&same, &other] {
            fs::write(file, b"one").unwrap();
            File::options()
                .write(true)
                .open(file)
                .unwrap()
                .set_modified(long_ago)
                .unwrap();
        }
        let files: [(&Path, &[u8]); 3] = [(&same, b"one"), (&other, b"two"), (&new, b"three")];
        assert_eq!(update_all(&files).unwrap(), [false, true, true]);
        assert_eq!(fs::metadata(&same).unwrap().modified().unwrap(), long_ago);
        assert_ne!(fs::metadata(&other).unwrap().modified().unwrap(), long_ago);
        assert_eq!(
            (fs::read(&other).unwrap(), fs::read(&new).unwrap()),
            (b"two".to_vec(), b"three".to_vec())
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_failure_at_the_last_step_leaves_no_new_file() {
        let folder = tempfile::tempdir().unwrap();
        let new = folder.path().join("new");
        let files: [(&Path, &[u8]); 2] = [(&new, b"one"), (Path::new("/dev/full"), b"two")];
        assert!(write_all(&files).is_err());
        assert!(!new.exists());
    }

    #[test]
    fn replaces_a_file_and_leaves_no_temporary_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sys");
        write(&path, b"one").unwrap();
        write(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_write_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("no").join("a.sys");
        assert!(write(&missing, b"one").is_err());
        assert!(write(folder.path(), b"one").is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn text_is_what_editors_and_shells_of_windows_write_too() {
        let wide = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
        for bytes in [
            b"ab\xC3\xA4".to_vec(),
            b"\xEF\xBB\xBFab\xC3\xA4".to_vec(),
            wide("\u{feff}ab\u{e4}"),
        ] {
            assert_eq!(text(bytes).as_deref(), Some("ab\u{e4}"));
        }
        assert_eq!(text(vec![0xFF, 0xFE, b'a']), None);
        assert_eq!(text(vec![0xE4]), None);
    }

    #[test]
    fn letters_differ_by_their_case_where_the_system_says_so() {
        let (a, b) = (Path::new("out/Ä.sys"), Path::new("Out/ä.SYS"));
        assert_eq!(name_key_of(a, true), name_key_of(b, true));
        assert_ne!(name_key_of(a, false), name_key_of(b, false));
        assert_ne!(name_key_of(a, true), name_key_of(Path::new("out/a.sys"), true));
    }

    #[test]
    fn of_the_devices_of_windows_only_those_are_written_to_that_are_meant() {
        let judged = |name, absolute| is_device_of_windows(name, absolute).map_err(|error| error.kind());
        let refused = Err(io::ErrorKind::InvalidFilename);
        for (name, absolute, expected) in [
            ("a.sys", r"C:\x\a.sys", Ok(false)),
            (r"\\server\share\a.sys", r"\\server\share\a.sys", Ok(false)),
            (r"\\?\C:\x\nul", r"\\?\C:\x\nul", Ok(false)),
            ("nul", r"\\.\nul", Ok(true)),
            (r"x\NUL", r"\\.\NUL", Ok(true)),
            ("//./pipe/p", r"\\.\pipe\p", Ok(true)),
            ("nul.sys", r"\\.\nul", refused),
            ("x/con", r"\\.\con", refused),
            ("com1.sys", r"\\.\com1", refused),
            // Newer Windows takes it for a file.
            ("con.sys", r"C:\x\con.sys", Ok(false)),
        ] {
            assert_eq!(judged(name, absolute), expected, "{name}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_symbolic_link_stays_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("a.sys"), folder.path().join("b.sys"));
        write(&file, b"one").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        write(&link, b"two").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().file_type().is_symlink());
        assert_eq!(fs::read(&file).unwrap(), b"two");
    }

    #[cfg(unix)]
    #[test]
    fn a_device_is_written_to_and_not_replaced() {
        write(Path::new("/dev/null"), b"one").unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }

    #[test]
    fn a_folder_as_input_is_an_error_that_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let error = read(folder.path()).unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::ReadFile { source, .. } if source.kind() == io::ErrorKind::IsADirectory)
        );
    }
}
