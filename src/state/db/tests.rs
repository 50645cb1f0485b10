use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::Change;
use super::super::record::tests::{hex_id, layer, pod};
use super::*;

fn put(digit: char) -> Write {
    record::encode(&Change::PutLayer(layer(digit))).unwrap()
}

#[test]
fn unreadable_records_are_set_aside_and_come_back_when_they_can_be_read() {
    let top = tempfile::tempdir().unwrap();
    let path = top.path().join("db");
    let (mut store, _) = Store::open(&path).unwrap();
    let good = record::encode(&Change::PutPod(Box::new(pod('a')))).unwrap();
    let newer = Write {
        kind: Kind::Pod,
        key: hex_id('b'),
        bytes: Some(b"{\"v\":9,\"data\":{}}".to_vec()),
    };
    let torn = Write {
        kind: Kind::Container,
        key: "x".into(),
        bytes: Some(vec![0; 7]),
    };
    store.commit(&[vec![good.clone(), newer, torn]]).unwrap();
    drop(store);
    for _ in 0..2 {
        let (_, recorded) = Store::open(&path).unwrap();
        assert_eq!((recorded.pods.len(), recorded.containers.len()), (1, 0));
        assert_eq!(recorded.quarantined.len(), 2, "{:?}", recorded.quarantined);
        assert!(
            recorded
                .quarantined
                .iter()
                .any(|line| line.starts_with(&format!("pods/{}", hex_id('b'))))
        );
    }
    // Another version knows the record: as if it had become readable.
    let (store, _) = Store::open(&path).unwrap();
    let database = store.database.as_ref().unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let readable = record::encode(&Change::PutPod(Box::new(pod('b')))).unwrap();
        let mut quarantine = transaction.open_table(QUARANTINE).unwrap();
        let name = quarantine_name(Kind::Pod, &hex_id('b'));
        quarantine
            .insert(name.as_str(), readable.bytes.unwrap().as_slice())
            .unwrap();
    }
    transaction.commit().unwrap();
    drop(store);
    for _ in 0..2 {
        let (_, recorded) = Store::open(&path).unwrap();
        assert_eq!((recorded.pods.len(), recorded.quarantined.len()), (2, 1));
    }
}

#[test]
fn a_database_of_a_newer_version_is_left_alone() {
    let top = tempfile::tempdir().unwrap();
    let path = top.path().join("db");
    let (store, _) = Store::open(&path).unwrap();
    let transaction = store.database.as_ref().unwrap().begin_write().unwrap();
    let meta: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
    transaction.open_table(meta).unwrap().insert("schema", 7).unwrap();
    transaction.commit().unwrap();
    drop(store);
    let error = Store::open(&path).err().unwrap().to_string();
    assert!(
        error.contains("schema version 7") && error.contains("up to 1"),
        "{error}"
    );
}

/// A size limit stands for a full disk: the group fails whole, smaller ones go on being recorded.
#[test]
fn a_full_disk_refuses_a_group_and_nothing_else() {
    let top = tempfile::tempdir().unwrap();
    let path = top.path().join("db");
    let (mut store, _) = Store::open(&path).unwrap();
    store.commit(&[vec![put('1')]]).unwrap();
    let big = Write {
        bytes: Some(vec![b' '; 8 << 20]),
        ..put('2')
    };
    store.database = None;
    let full = Full::open(&path);
    store.database = Some(open_backend(full).unwrap());
    let error = store.commit(&[vec![put('3'), big]]).unwrap_err();
    assert!(matches!(error, StateError::Full { .. }), "{error}");
    store.commit(&[vec![put('4')]]).unwrap();
    drop(store);
    let (_, recorded) = Store::open(&path).unwrap();
    assert_eq!(recorded.layers, [layer('1'), layer('4')]);
}

/// A database file that cannot grow.
#[derive(Debug)]
struct Full(DatabaseFile);

impl Full {
    fn open(path: &Path) -> Self {
        Self(DatabaseFile::open(path, SyncFailed::default()).unwrap())
    }
}

impl StorageBackend for Full {
    fn len(&self) -> std::io::Result<u64> {
        self.0.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.0.read(offset, out)
    }
    fn set_len(&self, len: u64) -> std::io::Result<()> {
        if len > self.0.len()? {
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        self.0.set_len(len)
    }
    fn sync_data(&self) -> std::io::Result<()> {
        self.0.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.0.write(offset, data)
    }
}

#[test]
fn the_file_takes_its_room_when_it_grows() {
    let top = tempfile::tempdir().unwrap();
    let path = top.path().join("db");
    let (mut store, _) = Store::open(&path).unwrap();
    store.commit(&[vec![put('1')]]).unwrap();
    drop(store);
    let file = fs::metadata(&path).unwrap();
    let blocks = std::os::unix::fs::MetadataExt::blocks(&file);
    assert!(blocks * 512 >= file.len(), "{} bytes in {blocks} blocks", file.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever is written and removed in whatever groups, an open finds what a map would hold.
    #[test]
    fn reopening_finds_the_model(groups in prop::collection::vec(
        prop::collection::vec((0..16_u32, prop::option::of(0..1000_u64)), 0..6), 1..20)
    ) {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("db");
        let mut model = BTreeMap::new();
        let mut store = Store::open(&path).unwrap().0;
        for (turn, group) in groups.iter().enumerate() {
            let writes = group.iter().map(|(digit, bytes)| {
                let digit = char::from_digit(*digit, 16).unwrap();
                let mut record = layer(digit);
                match bytes {
                    Some(bytes) => {
                        record.bytes = *bytes;
                        model.insert(record.diff_id.clone(), record.clone());
                        record::encode(&Change::PutLayer(record)).unwrap()
                    }
                    None => {
                        model.remove(&record.diff_id);
                        record::encode(&Change::DeleteLayer(record.diff_id)).unwrap()
                    }
                }
            }).collect();
            store.commit(&[writes]).unwrap();
            if turn % 5 == 4 {
                drop(store);
                store = Store::open(&path).unwrap().0;
            }
        }
        drop(store);
        let (_, recorded) = Store::open(&path).unwrap();
        prop_assert_eq!(recorded.layers, model.into_values().collect::<Vec<_>>());
    }
}
