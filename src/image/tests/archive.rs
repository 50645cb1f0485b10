//! Tar archives made by hand, so that they can be wrong in every way.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

/// An archive in the making.
#[derive(Default, Clone)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
}

/// A header in the making; what is not set is that of a plain file of root's.
#[derive(Clone)]
pub(crate) struct Head {
    block: [u8; 512],
}

pub(crate) fn head(name: &str, flag: u8) -> Head {
    let mut head = Head { block: [0; 512] };
    head.put(0, name.as_bytes());
    head.block[156] = flag;
    head.put(257, b"ustar\x0000");
    let mode = if flag == b'5' { 0o755 } else { 0o644 };
    head.mode(mode).ids(0, 0).size(0).mtime(1_000_000_000)
}

impl Head {
    pub(crate) fn put(&mut self, at: usize, bytes: &[u8]) {
        self.block[at..at + bytes.len()].copy_from_slice(bytes);
    }

    pub(crate) fn raw(mut self, at: usize, bytes: &[u8]) -> Self {
        self.put(at, bytes);
        self
    }

    pub(crate) fn octal(mut self, at: usize, width: usize, value: u64) -> Self {
        let text = format!("{value:0width$o}\0", width = width - 1);
        self.put(at, text.as_bytes());
        self
    }

    pub(crate) fn mode(self, mode: u64) -> Self {
        self.octal(100, 8, mode)
    }

    pub(crate) fn ids(self, uid: u64, gid: u64) -> Self {
        self.octal(108, 8, uid).octal(116, 8, gid)
    }

    pub(crate) fn size(self, size: u64) -> Self {
        self.octal(124, 12, size)
    }

    pub(crate) fn mtime(self, time: u64) -> Self {
        self.octal(136, 12, time)
    }

    pub(crate) fn link(self, target: &str) -> Self {
        self.raw(157, target.as_bytes())
    }

    pub(crate) fn device(self, major: u64, minor: u64) -> Self {
        self.octal(329, 8, major).octal(337, 8, minor)
    }

    fn sealed(mut self) -> [u8; 512] {
        self.put(148, b"        ");
        let sum: u64 = self.block.iter().map(|b| u64::from(*b)).sum();
        self.octal(148, 8, sum).block
    }
}

impl Archive {
    pub(crate) fn add(mut self, head: Head, content: &[u8]) -> Self {
        self.bytes.extend(head.sealed());
        self.bytes.extend(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend(bytes);
        self
    }

    pub(crate) fn file(self, name: &str, content: &str) -> Self {
        self.add(head(name, b'0').size(content.len() as u64), content.as_bytes())
    }

    pub(crate) fn dir(self, name: &str) -> Self {
        self.add(head(name, b'5'), b"")
    }

    pub(crate) fn symlink(self, name: &str, target: &str) -> Self {
        self.add(head(name, b'2').link(target), b"")
    }

    pub(crate) fn hardlink(self, name: &str, target: &str) -> Self {
        self.add(head(name, b'1').link(target), b"")
    }

    pub(crate) fn pax(self, records: &[(&str, &str)]) -> Self {
        let body: String = records.iter().map(|(key, value)| record(key, value)).collect();
        self.add(head("pax", b'x').size(body.len() as u64), body.as_bytes())
    }

    /// With the two blocks of zeros at its end.
    pub(crate) fn done(self) -> Vec<u8> {
        self.raw(&[0; 1024]).bytes
    }

    /// Without.
    pub(crate) fn open_end(self) -> Vec<u8> {
        self.bytes
    }
}

pub(crate) fn record(key: &str, value: &str) -> String {
    let body = format!(" {key}={value}\n");
    let mut length = body.len() + 1;
    while length.to_string().len() + body.len() != length {
        length = length.to_string().len() + body.len();
    }
    format!("{length}{body}")
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    ::zstd::encode_all(bytes, 3).unwrap()
}
