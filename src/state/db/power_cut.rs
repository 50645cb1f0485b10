//! The power is cut at every write, growth and sync of a series of commits: what was acknowledged is there after the
//! next open, what was not is there whole or not at all.

use std::io;
use std::sync::{Arc, Mutex};

use super::super::Change;
use super::super::record::tests::layer;
use super::*;

/// What the medium and its cache hold.
#[derive(Debug, Default)]
struct Medium {
    /// On the medium for good.
    durable: Vec<u8>,
    /// As a reader sees it now.
    current: Vec<u8>,
    /// Accepted since the last sync, in order.
    unsynced: Vec<Operation>,
    /// Operations left until the power goes.
    power: usize,
    /// State of a small random generator, so that a failure can be repeated.
    random: u64,
}

#[derive(Debug)]
enum Operation {
    Write(usize, Vec<u8>),
    SetLen(usize),
}

impl Medium {
    fn spend(&mut self) -> io::Result<()> {
        self.power = self.power.checked_sub(1).ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(())
    }

    fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    /// What is found after the cut: a random part of what was not synced, torn within sectors of 512 bytes.
    fn after_the_cut(&mut self) -> Vec<u8> {
        let mut found = std::mem::take(&mut self.durable);
        for operation in std::mem::take(&mut self.unsynced) {
            match operation {
                Operation::SetLen(len) if self.random(4) > 0 => found.resize(len, 0),
                Operation::SetLen(_) => {}
                Operation::Write(offset, data) => {
                    for (sector, bytes) in data.chunks(512).enumerate() {
                        let at = offset + sector * 512;
                        if self.random(2) == 0 && at + bytes.len() <= found.len() {
                            found[at..at + bytes.len()].copy_from_slice(bytes);
                        }
                    }
                }
            }
        }
        found
    }
}

#[derive(Debug, Clone)]
struct Disk(Arc<Mutex<Medium>>);

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().current.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let medium = self.0.lock().unwrap();
        let from = usize::try_from(offset).unwrap();
        let bytes = medium
            .current
            .get(from..from + out.len())
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut medium = self.0.lock().unwrap();
        medium.spend()?;
        let len = usize::try_from(len).unwrap();
        medium.current.resize(len, 0);
        medium.unsynced.push(Operation::SetLen(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut medium = self.0.lock().unwrap();
        medium.spend()?;
        medium.durable = medium.current.clone();
        medium.unsynced.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut medium = self.0.lock().unwrap();
        medium.spend()?;
        let from = usize::try_from(offset).unwrap();
        medium.current[from..from + data.len()].copy_from_slice(data);
        medium.unsynced.push(Operation::Write(from, data.to_vec()));
        Ok(())
    }
}

fn disk(content: Vec<u8>, power: usize, random: u64) -> Disk {
    Disk(Arc::new(Mutex::new(Medium {
        durable: content.clone(),
        current: content,
        unsynced: Vec::new(),
        power,
        random,
    })))
}

/// One commit sets every layer to the same number: a torn one would show two numbers.
fn generation(number: u64) -> Vec<Write> {
    let set = |digit| {
        let mut record = layer(digit);
        record.bytes = number;
        record::encode(&Change::PutLayer(record)).unwrap()
    };
    "0123456789abcdef".chars().map(set).collect()
}

fn found(content: Vec<u8>) -> u64 {
    let database = open_backend(disk(content, usize::MAX, 1)).unwrap();
    assert_eq!(pass_gate(&database).unwrap(), Gate::Current);
    let recorded = read_all(&database).unwrap();
    assert!(recorded.quarantined.is_empty(), "{:?}", recorded.quarantined);
    let numbers: Vec<_> = recorded.layers.iter().map(|layer| layer.bytes).collect();
    let first = numbers.first().copied().unwrap_or(0);
    assert!(numbers.iter().all(|number| *number == first), "torn: {numbers:?}");
    first
}

#[test]
fn x8_acknowledged_commits_survive_a_power_cut_at_any_point() {
    // A new database gets its name only when it is whole (`make_if_missing`), so there is always one to begin with.
    let new = disk(Vec::new(), usize::MAX, 1);
    pass_gate(&open_backend(new.clone()).unwrap()).unwrap();
    let new = new.0.lock().unwrap().durable.clone();
    let mut cuts = 0;
    for seed in 1..=8_u64 {
        // Each round lets the power last for one operation more, until all commits get through.
        for power in 0.. {
            let disk = disk(new.clone(), power, seed * 7919 + power as u64);
            let mut acknowledged = 0;
            let through = (|| {
                let database = open_backend(disk.clone())?;
                pass_gate(&database)?;
                for number in 1..=6 {
                    write(&database, &[generation(number)])?;
                    acknowledged = number;
                }
                // The power goes now: nothing is closed in order.
                disk.0.lock().unwrap().power = 0;
                Ok::<(), redb::Error>(())
            })()
            .is_ok();
            let content = disk.0.lock().unwrap().after_the_cut();
            let number = found(content);
            assert!(
                number == acknowledged || number == acknowledged + 1,
                "{number} after {acknowledged}, power {power}"
            );
            cuts += 1;
            if through {
                break;
            }
        }
    }
    println!("{cuts} cuts");
}
