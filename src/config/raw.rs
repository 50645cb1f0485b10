//! What was written: one table of settings says each key's type, default and meaning; the reader, the messages about
//! unknown keys and `copepod config default` all come from it. Knows nothing of what values mean.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Mistake;

/// The type of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// A string.
    Text,
    /// A list of strings.
    List,
    /// A whole number of at least 1.
    Count,
}

impl Type {
    fn name(self) -> &'static str {
        match self {
            Self::Text => "a string",
            Self::List => "a list of strings",
            Self::Count => "a whole number of at least 1",
        }
    }
}

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// Table it stands in; empty is the top level.
    pub section: &'static str,
    /// Its key.
    pub key: &'static str,
    /// Its type.
    pub kind: Type,
    /// Its default, in TOML.
    pub default: &'static str,
    /// What it is for; lines of the commented default.
    pub about: &'static str,
}

/// Every setting there is, in the order of the default file. The names at the top level, in `cri`, `registry` and
/// `network` are fixed: scripts outside rely on them.
pub const SETTINGS: &[Setting] = &[
    Setting {
        section: "",
        key: "root",
        kind: Type::Text,
        default: "\"/var/lib/copepod\"",
        about: "What survives a reboot: the database, images, writable layers. Mode 0700.",
    },
    Setting {
        section: "",
        key: "state",
        kind: Type::Text,
        default: "\"/run/copepod\"",
        about: "What dies with a reboot: sockets, namespaces, bundles, exit records. Mode 0711.\n\
                Short: socket paths below it must fit 107 bytes.",
    },
    Setting {
        section: "cri",
        key: "socket",
        kind: Type::Text,
        default: "\"\"",
        about: "Where kubelet and crictl connect; mode 0660, owner root. Empty: copepod.sock below `state`.",
    },
    Setting {
        section: "log",
        key: "level",
        kind: Type::Text,
        default: "\"info\"",
        about: "error, warn, info, debug or trace; or a filter such as \"info,copepod::image=debug\".",
    },
    Setting {
        section: "log",
        key: "format",
        kind: Type::Text,
        default: "\"text\"",
        about: "text for people, json for programs. Both go to standard error.",
    },
    Setting {
        section: "registry",
        key: "config_dir",
        kind: Type::Text,
        default: "\"/etc/copepod/certs.d\"",
        about: "A directory with <host>/hosts.toml for each registry that needs one (server, mirrors, capabilities).\n\
                Read at every pull.",
    },
    Setting {
        section: "image",
        key: "max_concurrent_layers",
        kind: Type::Count,
        default: "8",
        about: "Layers fetched and unpacked at once, over all pulls.",
    },
    Setting {
        section: "network",
        key: "mode",
        kind: Type::Text,
        default: "\"cni\"",
        about: "\"cni\" runs CNI plugins; \"builtin\" is a bridge of our own that needs nothing installed but nftables.",
    },
    Setting {
        section: "network.builtin",
        key: "subnet",
        kind: Type::Text,
        default: "\"10.88.0.0/16\"",
        about: "IPv4 addresses of pods; the first one is the bridge's.",
    },
    Setting {
        section: "network.builtin",
        key: "bridge",
        kind: Type::Text,
        default: "\"copepod0\"",
        about: "Name of the bridge device, at most 15 characters.",
    },
    Setting {
        section: "network.cni",
        key: "conf_dir",
        kind: Type::Text,
        default: "\"/etc/cni/net.d\"",
        about: "The first *.conflist, *.conf or *.json in lexical order is the pods' network.",
    },
    Setting {
        section: "network.cni",
        key: "bin_dirs",
        kind: Type::List,
        default: "[\"/opt/cni/bin\", \"/usr/lib/cni\"]",
        about: "Where plugins are looked for, in this order.",
    },
    Setting {
        section: "runtime",
        key: "shim",
        kind: Type::Text,
        default: "\"\"",
        about: "The shim's binary. Empty: containerd-shim-copepod-v1 beside the daemon's own binary, then in PATH.",
    },
    Setting {
        section: "runtime",
        key: "force_fallbacks",
        kind: Type::List,
        default: "[]",
        about: "Kernel features to treat as missing, to test the older ways: lowerdir-plus, clone-into-cgroup, or all.",
    },
];

/// A value as written or defaulted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Of [`Type::Text`].
    Text(String),
    /// Of [`Type::List`].
    List(Vec<String>),
    /// Of [`Type::Count`].
    Count(usize),
}

/// A value and the line it stands on; `None` for a default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The value.
    pub value: Value,
    /// Line, from 1.
    pub line: Option<usize>,
}

/// Values by full key; complete: every setting of [`SETTINGS`] is there.
pub type Values = BTreeMap<String, Written>;

impl Setting {
    /// Full key, e.g. `network.mode`.
    #[must_use]
    pub fn full_key(&self) -> String {
        if self.section.is_empty() {
            self.key.to_owned()
        } else {
            format!("{}.{}", self.section, self.key)
        }
    }
}

/// Reads `text`; what is missing or wrong takes its default, and every mistake is listed.
#[must_use]
pub fn read(text: &str) -> (Values, Vec<Mistake>) {
    let mut values = defaults();
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut mistakes: Vec<Mistake> = errors
        .iter()
        .map(|error| Mistake {
            line: error.span().map(|span| line_of(text, span.start)),
            key: String::new(),
            problem: format!("this is not TOML: {}", error.message()),
        })
        .collect();
    Walk {
        text,
        values: &mut values,
        mistakes: &mut mistakes,
    }
    .table("", table.get_ref());
    (values, mistakes)
}

/// The commented default configuration.
#[must_use]
pub fn default_file() -> String {
    let mut file = String::from("# copepod's configuration; every value here is the default.\n");
    let mut section = "";
    for setting in SETTINGS {
        if setting.section != section {
            section = setting.section;
            let _infallible = write!(file, "\n[{section}]");
        }
        for line in setting.about.lines() {
            let _infallible = write!(file, "\n# {line}");
        }
        let _infallible = writeln!(file, "\n{} = {}", setting.key, setting.default);
    }
    file
}

fn defaults() -> Values {
    let mut values = Values::new();
    for setting in SETTINGS {
        let value = DeValue::parse(setting.default)
            .ok()
            .and_then(|value| typed(setting.kind, value.get_ref()));
        if let Some(value) = value {
            values.insert(setting.full_key(), Written { value, line: None });
        }
    }
    values
}

fn typed(kind: Type, value: &DeValue<'_>) -> Option<Value> {
    match kind {
        Type::Text => value.as_str().map(|text| Value::Text(text.to_owned())),
        Type::List => value
            .as_array()?
            .iter()
            .map(|item| item.get_ref().as_str().map(str::to_owned))
            .collect::<Option<Vec<_>>>()
            .map(Value::List),
        Type::Count => {
            let number = value.as_integer()?;
            let count = usize::from_str_radix(number.as_str(), number.radix()).ok()?;
            (count > 0).then_some(Value::Count(count))
        }
    }
}

struct Walk<'a> {
    text: &'a str,
    values: &'a mut Values,
    mistakes: &'a mut Vec<Mistake>,
}

impl Walk<'_> {
    fn table(&mut self, section: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let line = line_of(self.text, key.span().start);
            let full = if section.is_empty() {
                key.get_ref().to_string()
            } else {
                format!("{section}.{}", key.get_ref())
            };
            match SETTINGS.iter().find(|setting| setting.full_key() == full) {
                Some(setting) => self.setting(setting, value, line),
                None if is_section(&full) => match value.get_ref().as_table() {
                    Some(inner) => self.table(&full, inner),
                    None => self.mistake(line, &full, format!("must be a table, written [{full}]")),
                },
                None => self.mistake(line, &full, format!("no such key; allowed here: {}", allowed(section))),
            }
        }
    }

    fn setting(&mut self, setting: &Setting, value: &Spanned<DeValue<'_>>, line: usize) {
        match typed(setting.kind, value.get_ref()) {
            Some(value) => {
                self.values.insert(
                    setting.full_key(),
                    Written {
                        value,
                        line: Some(line),
                    },
                );
            }
            None => {
                let problem = format!("must be {}, for example {}", setting.kind.name(), setting.default);
                self.mistake(line, &setting.full_key(), problem);
            }
        }
    }

    fn mistake(&mut self, line: usize, key: &str, problem: String) {
        self.mistakes.push(Mistake {
            line: Some(line),
            key: key.to_owned(),
            problem,
        });
    }
}

fn is_section(name: &str) -> bool {
    SETTINGS
        .iter()
        .any(|setting| setting.section == name || setting.section.starts_with(&format!("{name}.")))
}

fn allowed(section: &str) -> String {
    let mut names: Vec<&str> = SETTINGS
        .iter()
        .filter(|setting| setting.section == section)
        .map(|setting| setting.key)
        .collect();
    let prefix = if section.is_empty() {
        String::new()
    } else {
        format!("{section}.")
    };
    for setting in SETTINGS {
        if let Some(rest) = setting.section.strip_prefix(&prefix)
            && !rest.is_empty()
        {
            let table = rest.split('.').next().unwrap_or(rest);
            if !names.contains(&table) {
                names.push(table);
            }
        }
    }
    names.join(", ")
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes()
        .iter()
        .take(offset)
        .filter(|byte| **byte == b'\n')
        .count()
        + 1
}
