//! The database and its thread: one writer, everything that waits is one transaction, answers come after the disk has it.

#[cfg(test)]
mod power_cut;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};
use tokio::sync::{mpsc, oneshot};

use super::file::{DatabaseFile, SyncFailed};
use super::migrate::{self, Gate};
use super::record::{self, Kind, Write};
use super::{Recorded, StateError};
use crate::base::fs::remove_file_if_there;

/// Bytes of pages that the library may keep. The daemon reads the database once, at its start; afterwards only the
/// upper pages of five small trees are met again.
const CACHE: usize = 1024 * 1024;

/// Most requests in one transaction: bounds the memory of a transaction and how long its first member waits.
const GROUP: usize = 256;

/// Records that cannot be read, by `table/key`: kept for a version that can, never served.
const QUARANTINE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("quarantine");

fn table(kind: Kind) -> TableDefinition<'static, &'static str, &'static [u8]> {
    TableDefinition::new(kind.table())
}

/// What the thread is asked.
#[derive(Debug)]
pub(super) enum Request {
    /// Record these, all or none.
    Commit {
        writes: Vec<Write>,
        reply: oneshot::Sender<Result<(), StateError>>,
    },
    /// End.
    Close { closed: oneshot::Sender<()> },
}

/// An open database.
pub(super) struct Store {
    path: PathBuf,
    sync_failed: SyncFailed,
    /// `None` after a failed commit: the library refuses a database that met an I/O error until it is opened anew.
    database: Option<Database>,
}

impl Store {
    /// Opens or makes it and reads everything.
    pub(super) fn open(path: &Path) -> Result<(Self, Recorded), StateError> {
        let sync_failed = SyncFailed::default();
        make_if_missing(path)?;
        let database = open_file(path, &sync_failed)?;
        let recorded = load(&database, path)?;
        let store = Self {
            path: path.to_owned(),
            sync_failed,
            database: Some(database),
        };
        Ok((store, recorded))
    }

    /// Records a group durably.
    fn commit(&mut self, group: &[Vec<Write>]) -> Result<(), StateError> {
        if self.sync_failed.is_set() {
            return Err(StateError::Untrusted);
        }
        let database = match self.database.take() {
            Some(database) => database,
            // The failure was before the sync (a full disk, mostly): what the file holds is the last commit.
            None => match open_file(&self.path, &self.sync_failed) {
                Err(StateError::Read { source, .. }) if is_full(&source) => return Err(self.full(*source)),
                opened => opened?,
            },
        };
        match write(&database, group) {
            Ok(()) => {
                self.database = Some(database);
                Ok(())
            }
            Err(error) => {
                drop(database);
                if self.sync_failed.is_set() {
                    return Err(StateError::Untrusted);
                }
                if is_full(&error) {
                    return Err(self.full(error));
                }
                Err(StateError::Commit {
                    changes: group.iter().map(Vec::len).sum(),
                    source: Arc::new(error),
                })
            }
        }
    }
}

impl Store {
    fn full(&self, error: redb::Error) -> StateError {
        StateError::Full {
            root: self.path.parent().unwrap_or(Path::new("/")).to_owned(),
            source: Arc::new(error),
        }
    }
}

/// No space, or none left of a quota.
fn is_full(error: &redb::Error) -> bool {
    matches!(error, redb::Error::Io(io) if matches!(
        io.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
    ))
}

/// Serves requests until nobody can ask any more, or until told to end: then it returns whom to tell that it has, once
/// everything is given up.
pub(super) fn serve(mut store: Store, mut inbox: mpsc::UnboundedReceiver<Request>) -> Option<oneshot::Sender<()>> {
    let mut next = inbox.blocking_recv();
    while let Some(request) = next.take() {
        let mut group = Vec::new();
        let mut replies = Vec::new();
        let mut request = Some(request);
        let mut close = None;
        while let Some(taken) = request.take() {
            match taken {
                Request::Commit { writes, reply } => {
                    group.push(writes);
                    replies.push(reply);
                }
                Request::Close { closed } => {
                    close = Some(closed);
                    break;
                }
            }
            if group.len() < GROUP {
                request = inbox.try_recv().ok();
            }
        }
        if !group.is_empty() {
            answer(replies, store.commit(&group));
        }
        if close.is_some() {
            // Requests behind this one find their reply dropped, which reads as closed.
            return close;
        }
        next = inbox.blocking_recv();
    }
    None
}

/// Gives everybody in a group the group's outcome. A caller who went away does not miss it.
fn answer(replies: Vec<oneshot::Sender<Result<(), StateError>>>, outcome: Result<(), StateError>) {
    match outcome {
        Ok(()) => replies.into_iter().for_each(|reply| drop(reply.send(Ok(())))),
        Err(StateError::Commit { changes, source }) => {
            for reply in replies {
                let source = Arc::clone(&source);
                drop(reply.send(Err(StateError::Commit { changes, source })));
            }
        }
        Err(StateError::Full { root, source }) => {
            for reply in replies {
                let (root, source) = (root.clone(), Arc::clone(&source));
                drop(reply.send(Err(StateError::Full { root, source })));
            }
        }
        Err(first) => {
            // The others learn that the store is of no use; the first learns why.
            let mut first = Some(first);
            for reply in replies {
                drop(reply.send(Err(first.take().unwrap_or(StateError::Untrusted))));
            }
        }
    }
}

/// Makes an empty database under another name first. The library writes a file's magic number last, and takes a file
/// that has a length and no magic for a foreign one: a power cut at the very first start would need a person.
fn make_if_missing(path: &Path) -> Result<(), StateError> {
    let failed = |source| StateError::File {
        path: path.to_owned(),
        source,
    };
    if path.try_exists().map_err(failed)? {
        return Ok(());
    }
    let beside = path.with_extension("new");
    remove_file_if_there(&beside).map_err(StateError::Directory)?;
    let database = open_file(&beside, &SyncFailed::default())?;
    load(&database, &beside)?;
    drop(database);
    fs::File::open(&beside)
        .and_then(|file| file.sync_all())
        .map_err(failed)?;
    fs::rename(&beside, path).map_err(failed)?;
    let dir = path.parent().unwrap_or(Path::new("/"));
    fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)
}

fn open_file(path: &Path, sync_failed: &SyncFailed) -> Result<Database, StateError> {
    let file = DatabaseFile::open(path, sync_failed.clone()).map_err(|source| StateError::File {
        path: path.to_owned(),
        source,
    })?;
    open_backend(file).map_err(|error| classify(path, error))
}

/// Opens a database on anything that stores bytes; every page is checked first.
fn open_backend(backend: impl StorageBackend) -> Result<Database, redb::Error> {
    Ok(Database::builder()
        .set_cache_size(CACHE)
        .set_check_integrity_on_open(true)
        .create_with_backend(backend)?)
}

fn classify(path: &Path, error: redb::Error) -> StateError {
    let path = path.to_owned();
    let damaged = matches!(error, redb::Error::Corrupted(_) | redb::Error::RepairAborted)
        // The library reports a foreign file, and one cut short, as invalid data.
        || matches!(&error, redb::Error::Io(io) if matches!(io.kind(), std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof));
    let source = Box::new(error);
    if damaged {
        StateError::Damaged { path, source }
    } else {
        StateError::Read { path, source }
    }
}

/// Applies a group in one transaction.
fn write(database: &Database, group: &[Vec<Write>]) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    for Write { kind, key, bytes } in group.iter().flatten() {
        let mut table = transaction.open_table(table(*kind))?;
        match bytes {
            Some(bytes) => drop(table.insert(key.as_str(), bytes.as_slice())?),
            None => drop(table.remove(key.as_str())?),
        }
    }
    transaction.commit()?;
    Ok(())
}

/// Reads everything, after the version gate. Records that cannot be read are set aside; those set aside before are
/// tried again, since a newer version may know them.
fn load(database: &Database, path: &Path) -> Result<Recorded, StateError> {
    match pass_gate(database).map_err(|error| classify(path, error))? {
        Gate::Current => {}
        Gate::Newer(found) => {
            return Err(StateError::Newer {
                path: path.to_owned(),
                found,
                known: migrate::SCHEMA,
            });
        }
    }
    read_all(database).map_err(|error| classify(path, error))
}

fn pass_gate(database: &Database) -> Result<Gate, redb::Error> {
    let transaction = database.begin_write()?;
    let gate = migrate::pass(&transaction)?;
    match gate {
        Gate::Current => {
            // Made now, so that reading needs no case for tables that nobody has written to.
            for kind in Kind::ALL {
                transaction.open_table(table(kind))?;
            }
            transaction.open_table(QUARANTINE)?;
            transaction.commit()?;
        }
        // Nothing of a newer database is touched.
        Gate::Newer(_) => transaction.abort()?,
    }
    Ok(gate)
}

fn read_all(database: &Database) -> Result<Recorded, redb::Error> {
    let mut recorded = Recorded::default();
    let mut bad: Vec<(Kind, String, Vec<u8>)> = Vec::new();
    let mut readable: Vec<(Kind, String, Vec<u8>)> = Vec::new();
    let transaction = database.begin_read()?;
    for kind in Kind::ALL {
        for entry in transaction.open_table(table(kind))?.iter()? {
            let (key, bytes) = entry?;
            if let Err(error) = record::decode(kind, key.value(), bytes.value(), &mut recorded) {
                recorded.quarantined.push(report(kind, key.value(), &error));
                bad.push((kind, key.value().to_owned(), bytes.value().to_vec()));
            }
        }
    }
    for entry in transaction.open_table(QUARANTINE)?.iter()? {
        let (name, bytes) = entry?;
        let Some((kind, key)) = parse_name(name.value()) else {
            continue;
        };
        // A record made since under the same key is the truth; this one stays where it is.
        if transaction.open_table(table(kind))?.get(key)?.is_some() {
            continue;
        }
        match record::decode(kind, key, bytes.value(), &mut recorded) {
            Ok(()) => readable.push((kind, key.to_owned(), bytes.value().to_vec())),
            Err(error) => recorded.quarantined.push(report(kind, key, &error)),
        }
    }
    drop(transaction);
    if !bad.is_empty() || !readable.is_empty() {
        move_records(database, &bad, &readable)?;
    }
    Ok(recorded)
}

/// Moves unreadable records out of their tables, and readable ones back.
fn move_records(
    database: &Database,
    bad: &[(Kind, String, Vec<u8>)],
    readable: &[(Kind, String, Vec<u8>)],
) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut quarantine = transaction.open_table(QUARANTINE)?;
        for (kind, key, bytes) in bad {
            quarantine.insert(quarantine_name(*kind, key).as_str(), bytes.as_slice())?;
            transaction.open_table(table(*kind))?.remove(key.as_str())?;
        }
        for (kind, key, bytes) in readable {
            quarantine.remove(quarantine_name(*kind, key).as_str())?;
            transaction
                .open_table(table(*kind))?
                .insert(key.as_str(), bytes.as_slice())?;
        }
    }
    transaction.commit()?;
    Ok(())
}

fn quarantine_name(kind: Kind, key: &str) -> String {
    format!("{}/{key}", kind.table())
}

fn parse_name(name: &str) -> Option<(Kind, &str)> {
    let (table, key) = name.split_once('/')?;
    let kind = Kind::ALL.into_iter().find(|kind| kind.table() == table)?;
    Some((kind, key))
}

fn report(kind: Kind, key: &str, error: &record::DecodeError) -> String {
    format!("{}/{key}: {error}", kind.table())
}
