//! What the written values mean: paths made absolute choices, names checked, parts handed to the rooms that own them.
//! Asks the host nothing but where the daemon's own binary is, and where symbolic links in `root` lead.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use super::raw::{Value, Values};
use super::{Config, Mistake};
use crate::{image, network, runtime, telemetry};

/// Name of the shim's binary.
const SHIM: &str = "containerd-shim-copepod-v1";

/// The largest count that makes sense: each stands for a connection, a thread and a window of an unpacker.
const MOST: usize = 1024;

/// In `runtime.force_fallbacks`: every name there is.
const ALL: &str = "all";

/// Turns `values` into a configuration; adds to `mistakes` what cannot be meant.
pub fn resolve(values: &Values, mistakes: &mut Vec<Mistake>) -> Option<Config> {
    let mut reader = Reader { values, mistakes };
    let root = reader.directory("root");
    let state = reader.directory("state");
    let socket = match reader.text("cri.socket") {
        "" => state.join("copepod.sock"),
        _ => reader.directory("cri.socket"),
    };
    if root == state {
        reader.wrong(
            "state",
            "must differ from `root`: one survives a reboot, the other does not".to_owned(),
        );
    }
    let log = reader.log();
    let network = reader.network();
    let shim = match reader.text("runtime.shim") {
        "" => find_shim(),
        _ => reader.directory("runtime.shim"),
    };
    Some(Config {
        image: image::Config {
            config_dir: reader.directory("registry.config_dir"),
            layers: root.join("layers"),
            ingest: root.join("ingest"),
            max_concurrent_layers: reader.count("image.max_concurrent_layers"),
        },
        runtime: runtime::Config {
            shim,
            state: state.clone(),
            instance: instance(&root),
            force_fallbacks: reader.fallbacks(),
        },
        root,
        state,
        socket,
        log,
        network,
    })
}

struct Reader<'a> {
    values: &'a Values,
    mistakes: &'a mut Vec<Mistake>,
}

impl<'a> Reader<'a> {
    fn text(&self, key: &str) -> &'a str {
        match self.values.get(key).map(|written| &written.value) {
            Some(Value::Text(text)) => text,
            Some(Value::List(_) | Value::Count(_)) | None => "",
        }
    }

    fn list(&self, key: &str) -> &'a [String] {
        match self.values.get(key).map(|written| &written.value) {
            Some(Value::List(list)) => list,
            Some(Value::Text(_) | Value::Count(_)) | None => &[],
        }
    }

    fn count(&mut self, key: &str) -> usize {
        let count = match self.values.get(key).map(|written| &written.value) {
            Some(Value::Count(count)) => *count,
            Some(Value::Text(_) | Value::List(_)) | None => 1,
        };
        if count > MOST {
            self.wrong(key, format!("{count} must be at most {MOST}"));
        }
        count
    }

    fn wrong(&mut self, key: &str, problem: String) {
        let line = self.values.get(key).and_then(|written| written.line);
        self.mistakes.push(Mistake {
            line,
            key: key.to_owned(),
            problem,
        });
    }

    fn directory(&mut self, key: &str) -> PathBuf {
        let text = self.text(key);
        self.absolute(key, text)
    }

    fn absolute(&mut self, key: &str, text: &str) -> PathBuf {
        let path = Path::new(text);
        let plain =
            path.is_absolute() && !text.contains('\0') && path.components().all(|part| part.as_os_str() != "..");
        if !plain {
            self.wrong(key, format!("{text:?} must be an absolute path without `..`"));
        }
        path.to_owned()
    }

    fn log(&mut self) -> telemetry::log::Config {
        let format = match self.text("log.format") {
            "text" => telemetry::log::Format::Text,
            "json" => telemetry::log::Format::Json,
            other => {
                self.wrong("log.format", format!("{other:?} is neither \"text\" nor \"json\""));
                telemetry::log::Format::Text
            }
        };
        let filter = self.text("log.level").to_owned();
        if let Err(reason) = telemetry::log::check_filter(&filter) {
            let allowed = "allowed: error, warn, info, debug, trace, or a filter such as \"info,copepod::image=debug\"";
            self.wrong(
                "log.level",
                format!("{filter:?} is no log filter ({reason}); {allowed}"),
            );
        }
        telemetry::log::Config { filter, format }
    }

    fn network(&mut self) -> network::Config {
        let builtin = network::Config::Builtin {
            subnet: self.subnet(),
            bridge: self.bridge(),
        };
        let bin_dirs: Vec<PathBuf> = self
            .list("network.cni.bin_dirs")
            .iter()
            .map(|dir| self.absolute("network.cni.bin_dirs", dir))
            .collect();
        let cni = network::Config::Cni {
            conf_dir: self.directory("network.cni.conf_dir"),
            bin_dirs,
        };
        match self.text("network.mode") {
            "builtin" => builtin,
            "cni" => cni,
            other => {
                self.wrong("network.mode", format!("{other:?} is neither \"cni\" nor \"builtin\""));
                cni
            }
        }
    }

    /// The names that the shim knows; `all` is every one of them.
    fn fallbacks(&mut self) -> Vec<String> {
        let key = "runtime.force_fallbacks";
        let known = runtime::FALLBACKS;
        let written = self.list(key);
        for name in written {
            if name != ALL && !known.contains(&name.as_str()) {
                let allowed = known.join(", ");
                self.wrong(
                    key,
                    format!("{name:?} is no kernel feature with a fallback; allowed: {ALL}, {allowed}"),
                );
            }
        }
        let forced = |name: &&str| written.iter().any(|written| written == ALL || written == name);
        known.iter().copied().filter(forced).map(str::to_owned).collect()
    }

    fn subnet(&mut self) -> String {
        let key = "network.builtin.subnet";
        let text = self.text(key).to_owned();
        let parts = text
            .split_once('/')
            .map(|(address, length)| (address.parse::<Ipv4Addr>(), length.parse::<u32>()));
        let Some((Ok(address), Ok(length @ 8..=28))) = parts else {
            self.wrong(
                key,
                format!("{text:?} must be an IPv4 network with a prefix of 8 to 28 bits, as 10.88.0.0/16"),
            );
            return text;
        };
        if address.to_bits().checked_shl(length).unwrap_or(0) != 0 {
            let network = Ipv4Addr::from_bits(address.to_bits() >> (32 - length) << (32 - length));
            self.wrong(
                key,
                format!("{text:?} has host bits set; did you mean {network}/{length}?"),
            );
        }
        text
    }

    fn bridge(&mut self) -> String {
        let key = "network.builtin.bridge";
        let name = self.text(key).to_owned();
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        if name.is_empty() || name.len() > 15 || !name.bytes().all(allowed) {
            self.wrong(
                key,
                format!("{name:?} must be 1 to 15 letters, digits, '-' or '_' (a network device name)"),
            );
        }
        name
    }
}

/// Beside our own binary, then in `PATH`; the bare name if nowhere, so that the error names what was looked for.
fn find_shim() -> PathBuf {
    let beside = std::env::current_exe()
        .ok()
        .and_then(|own| own.parent().map(|dir| dir.join(SHIM)));
    let path = std::env::var_os("PATH").unwrap_or_default();
    beside
        .into_iter()
        .chain(std::env::split_paths(&path).map(|dir| dir.join(SHIM)))
        .find(|candidate| candidate.is_file())
        .unwrap_or_else(|| PathBuf::from(SHIM))
}

/// A short name for what this daemon makes outside of its directories (cgroups, network devices): the same for the
/// same `root` however it is written, different for another one.
fn instance(root: &Path) -> String {
    use sha2::{Digest, Sha256};
    use std::os::unix::ffi::OsStrExt;
    hex::encode(&Sha256::digest(canonical(root).as_os_str().as_bytes())[..4])
}

/// `root` without links, dots and doubled slashes. What does not exist yet has no links in it.
fn canonical(root: &Path) -> PathBuf {
    let mut missing = Vec::new();
    for there in root.ancestors() {
        if let Ok(mut real) = std::fs::canonicalize(there) {
            real.extend(missing.into_iter().rev());
            return real;
        }
        missing.extend(there.file_name());
    }
    root.components().collect()
}
