//! The C side: a copy of the default file system whose `xOpen` puts our methods before the real file's, and whose
//! `xDelete` tells of files that are gone for good.
//!
//! The functions of the default file system other than these do not look at the file system they are given
//! (neither those for Unix nor those for Windows), so the copy keeps them. Memory layout of an open file: our
//! [`ShimFile`], then, at the next multiple of 16 bytes, the real file. SQLite allocates `szOsFile` bytes for
//! both, and owns them from `xOpen` to `xClose`.
#![expect(unsafe_code, reason = "SQLite's file system interface is a table of C functions")]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;
use std::sync::Arc;

use libsqlite3_sys as ffi;

use super::{DiskFault, FaultControl, FileKind, RegisterError, VfsCall};

/// What the copy's `pAppData` points to; it lives as long as the process.
struct VfsShim {
    base: *mut ffi::sqlite3_vfs,
    control: Arc<FaultControl>,
}

#[repr(C)]
struct ShimFile {
    head: ffi::sqlite3_file,
    shim: *const VfsShim,
    kind: FileKind,
    /// Its number with the control.
    number: usize,
}

/// Where the real file begins behind ours; aligned for whatever it holds.
const REAL_AT: usize = size_of::<ShimFile>().next_multiple_of(16);

pub(super) fn register_vfs(name: &str, control: Arc<FaultControl>) -> Result<(), RegisterError> {
    let name = CString::new(name).map_err(|_| RegisterError::Name)?;
    // SAFETY: both are plain calls with a NUL-terminated name or none; SQLite initialises itself if need be.
    let (base, taken) =
        unsafe { (ffi::sqlite3_vfs_find(ptr::null()), !ffi::sqlite3_vfs_find(name.as_ptr()).is_null()) };
    if taken {
        return Err(RegisterError::Name);
    }
    if base.is_null() {
        return Err(RegisterError::Sqlite(ffi::SQLITE_NOTFOUND));
    }
    let shim: &'static VfsShim = Box::leak(Box::new(VfsShim { base, control }));
    // SAFETY: `base` is a registered file system, which stays valid and unchanged while the process lives; the
    // struct is plain data.
    let mut vfs = unsafe { ptr::read(base) };
    let real_at = c_int::try_from(REAL_AT).unwrap_or(c_int::MAX);
    vfs.szOsFile += real_at;
    vfs.pNext = ptr::null_mut();
    vfs.zName = name.into_raw();
    vfs.pAppData = ptr::from_ref(shim).cast_mut().cast();
    vfs.xOpen = Some(open);
    vfs.xDelete = Some(delete);
    // SAFETY: the struct and its name are leaked, so they outlive every connection; 0 leaves the default alone.
    match unsafe { ffi::sqlite3_vfs_register(Box::leak(Box::new(vfs)), 0) } {
        ffi::SQLITE_OK => Ok(()),
        code => Err(RegisterError::Sqlite(code)),
    }
}

/// Deletes a file. Only with `sync_dir` is it gone after a power cut, too.
unsafe extern "C" fn delete(vfs: *mut ffi::sqlite3_vfs, name: *const c_char, sync_dir: c_int) -> c_int {
    // SAFETY: SQLite calls with the registered struct, whose `pAppData` is a leaked `Shim`, and with a name that
    // ends with a NUL byte.
    unsafe {
        let shim = (*vfs).pAppData.cast::<VfsShim>().cast_const();
        let base = (*shim).base;
        let Some(base_delete) = (*base).xDelete else { return ffi::SQLITE_IOERR_DELETE };
        let code = base_delete(base, name, sync_dir);
        if code == ffi::SQLITE_OK && sync_dir != 0 {
            let path = CStr::from_ptr(name).to_string_lossy();
            (*shim).control.forget_deleted(|known| known == std::path::Path::new(path.as_ref()));
        }
        code
    }
}

unsafe extern "C" fn open(
    vfs: *mut ffi::sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    // SAFETY: SQLite calls with the registered struct, whose `pAppData` is a leaked `Shim`, and with `szOsFile`
    // bytes at `file`, which hold our file and the real one.
    unsafe {
        let shim = (*vfs).pAppData.cast::<VfsShim>().cast_const();
        (*file).pMethods = ptr::null();
        let base = (*shim).base;
        let Some(base_open) = (*base).xOpen else { return ffi::SQLITE_CANTOPEN };
        let real = real(file);
        (*real).pMethods = ptr::null();
        let code = base_open(base, name, real, flags, out_flags);
        if code != ffi::SQLITE_OK {
            // A file whose methods stay unset is not closed by SQLite, so the real one must be closed here.
            if let Some(close) = (*real).pMethods.as_ref().and_then(|methods| methods.xClose) {
                close(real);
            }
            return code;
        }
        let shim_file = file.cast::<ShimFile>();
        (*shim_file).shim = shim;
        (*shim_file).kind = file_kind(flags);
        // Only a temporary file has no name; SQLite ends every other with a NUL byte.
        let path =
            if name.is_null() { String::new() } else { CStr::from_ptr(name).to_string_lossy().into_owned() };
        (*shim_file).number = (*shim).control.file_number(path.into());
        (*file).pMethods = &raw const METHODS;
        code
    }
}

fn file_kind(flags: c_int) -> FileKind {
    if flags & ffi::SQLITE_OPEN_MAIN_DB != 0 {
        FileKind::Main
    } else if flags & ffi::SQLITE_OPEN_WAL != 0 {
        FileKind::Wal
    } else if flags & (ffi::SQLITE_OPEN_MAIN_JOURNAL | ffi::SQLITE_OPEN_SUPER_JOURNAL) != 0 {
        FileKind::Journal
    } else {
        FileKind::Temporary
    }
}

/// Finds the real file behind ours.
unsafe fn real(file: *mut ffi::sqlite3_file) -> *mut ffi::sqlite3_file {
    // SAFETY: the caller passes a file of ours, behind which the real one begins at `REAL_AT`.
    unsafe { file.byte_add(REAL_AT) }
}

/// Asks whether a call must fail, and with which code.
unsafe fn failing_code(file: *mut ffi::sqlite3_file, call: VfsCall, eio: c_int) -> Option<c_int> {
    // SAFETY: the caller passes an open file of ours, whose shim is leaked.
    let fault = unsafe {
        let file = file.cast::<ShimFile>();
        (*(*file).shim).control.count_call(call, (*file).kind)
    };
    fault.map(|fault| match fault {
        DiskFault::Eio => eio,
        DiskFault::Full => ffi::SQLITE_FULL,
        DiskFault::Lie => ffi::SQLITE_OK,
    })
}

/// Reads a whole file; `None` where it cannot be read, which then counts as not synced.
unsafe fn read_whole_file(file: *mut ffi::sqlite3_file) -> Option<Vec<u8>> {
    let mut size = 0_i64;
    // SAFETY: the caller passes an open file of ours; the buffer has as many bytes as the call's length argument says.
    unsafe {
        if file_size(file, &raw mut size) != ffi::SQLITE_OK {
            return None;
        }
        let count = c_int::try_from(size).ok()?;
        let mut bytes = vec![0_u8; usize::try_from(size).ok()?];
        if count == 0 {
            return Some(bytes);
        }
        (read(file, bytes.as_mut_ptr().cast(), count, 0) == ffi::SQLITE_OK).then_some(bytes)
    }
}

/// Passes a call on to the real file.
macro_rules! pass {
    ($($name:ident as $method:ident($($argument:ident: $kind:ty),*) -> $output:ty, else $missing:expr;)+) => {
        $(unsafe extern "C" fn $name(file: *mut ffi::sqlite3_file $(, $argument: $kind)*) -> $output {
            // SAFETY: SQLite calls with an open file of ours; the real file behind it is open too, and its
            // methods get the arguments that SQLite meant for them.
            unsafe {
                let real = real(file);
                match (*real).pMethods.as_ref().and_then(|methods| methods.$method) {
                    Some(method) => method(real $(, $argument)*),
                    None => $missing,
                }
            }
        })+
    };
}

pass! {
    close as xClose() -> c_int, else ffi::SQLITE_OK;
    read as xRead(into: *mut c_void, count: c_int, at: i64) -> c_int, else ffi::SQLITE_IOERR_READ;
    write_real as xWrite(from: *const c_void, count: c_int, at: i64) -> c_int, else ffi::SQLITE_IOERR_WRITE;
    truncate_real as xTruncate(size: i64) -> c_int, else ffi::SQLITE_IOERR_TRUNCATE;
    sync_real as xSync(flags: c_int) -> c_int, else ffi::SQLITE_IOERR_FSYNC;
    file_size as xFileSize(size: *mut i64) -> c_int, else ffi::SQLITE_IOERR_FSTAT;
    lock as xLock(level: c_int) -> c_int, else ffi::SQLITE_IOERR_LOCK;
    unlock as xUnlock(level: c_int) -> c_int, else ffi::SQLITE_IOERR_UNLOCK;
    check_reserved_lock as xCheckReservedLock(held: *mut c_int) -> c_int, else ffi::SQLITE_IOERR_LOCK;
    file_control as xFileControl(op: c_int, argument: *mut c_void) -> c_int, else ffi::SQLITE_NOTFOUND;
    sector_size as xSectorSize() -> c_int, else 0;
    device_characteristics as xDeviceCharacteristics() -> c_int, else 0;
    shm_map as xShmMap(page: c_int, size: c_int, extend: c_int, at: *mut *mut c_void) -> c_int,
        else ffi::SQLITE_IOERR_SHMMAP;
    shm_lock as xShmLock(offset: c_int, count: c_int, flags: c_int) -> c_int, else ffi::SQLITE_IOERR_SHMLOCK;
    shm_barrier as xShmBarrier() -> (), else ();
    shm_unmap as xShmUnmap(delete: c_int) -> c_int, else ffi::SQLITE_OK;
}

unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    from: *const c_void,
    count: c_int,
    at: i64,
) -> c_int {
    // SAFETY: SQLite calls with an open file of ours and a buffer of `count` bytes.
    unsafe {
        match failing_code(file, VfsCall::Write, ffi::SQLITE_IOERR_WRITE) {
            Some(code) => code,
            None => write_real(file, from, count, at),
        }
    }
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, size: i64) -> c_int {
    // SAFETY: SQLite calls with an open file of ours.
    unsafe {
        match failing_code(file, VfsCall::Truncate, ffi::SQLITE_IOERR_TRUNCATE) {
            Some(code) => code,
            None => truncate_real(file, size),
        }
    }
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, flags: c_int) -> c_int {
    // SAFETY: SQLite calls with an open file of ours.
    unsafe {
        if let Some(code) = failing_code(file, VfsCall::Sync, ffi::SQLITE_IOERR_FSYNC) {
            return code;
        }
        let ours = &*file.cast::<ShimFile>();
        let control = &(*ours.shim).control;
        let acknowledged = control.lock_state().acknowledged;
        let code = sync_real(file, flags);
        if code == ffi::SQLITE_OK
            && ours.kind != FileKind::Temporary
            && control.is_recording()
            && let Some(bytes) = read_whole_file(file)
        {
            control.note_synced(ours.number, bytes, acknowledged);
        }
        code
    }
}

/// Version 2: shared memory for the log, and no memory-mapped reads or writes that would pass us by.
static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};
