//! Wire compatibility: the descriptors that the build compiled say exactly what `tests/golden/cri-v1.json` says,
//! nothing more and nothing less. The comparer itself is tested on doctored descriptors.

#![allow(
    clippy::expect_used,
    reason = "a test stops at the first thing that is not as it must be"
)]

use std::collections::BTreeMap;
use std::fs;

use copepod_proto::cri::AuthConfig;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FieldOptions, FileDescriptorProto, FileDescriptorSet,
    MethodDescriptorProto, ServiceDescriptorProto,
};
use protox::prost::Message as _;
use serde_json::Value;

const PACKAGE: &str = ".runtime.v1.";

/// Every statement about the wire, one per line: what it is about -> what it says.
type Facts = BTreeMap<String, String>;

fn compiled() -> FileDescriptorSet {
    let bytes: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/cri.descriptors"));
    FileDescriptorSet::decode(bytes).expect("build.rs wrote a descriptor set")
}

fn golden() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/cri-v1.json");
    serde_json::from_str(&fs::read_to_string(path).expect(path)).expect("golden data is JSON")
}

fn state(facts: &mut Facts, about: String, says: String) {
    let before = facts.insert(about.clone(), says);
    assert_eq!(before, None, "{about} is stated twice");
}

// === from the descriptors ===

fn facts_of_descriptors(set: &FileDescriptorSet) -> Facts {
    let mut facts = Facts::new();
    for file in &set.file {
        let FileDescriptorProto {
            package,
            message_type,
            enum_type,
            service,
            extension,
            syntax,
            ..
        } = file;
        assert_eq!(
            (package.as_deref(), syntax.as_deref()),
            (Some("runtime.v1"), Some("proto3")),
            "{:?}",
            file.name
        );
        assert!(extension.is_empty(), "extensions in {:?}", file.name);
        for message in message_type {
            message_facts(&mut facts, "", message);
        }
        for enumeration in enum_type {
            enum_facts(&mut facts, "", enumeration);
        }
        for service in service {
            service_facts(&mut facts, service);
        }
    }
    facts
}

fn message_facts(facts: &mut Facts, scope: &str, message: &DescriptorProto) {
    let name = format!("{scope}{}", message.name());
    assert!(
        message.extension.is_empty() && message.oneof_decl.is_empty(),
        "{name} has oneofs or extensions"
    );
    state(facts, format!("message {name}"), String::new());
    let scope = format!("{name}.");
    for field in &message.field {
        let about = format!("field {scope}{}", field.name());
        state(facts, about, field_says(message, field));
    }
    for nested in &message.nested_type {
        // The entries of map fields are messages on the wire only.
        if !is_map_entry(nested) {
            message_facts(facts, &scope, nested);
        }
    }
    for nested in &message.enum_type {
        enum_facts(facts, &scope, nested);
    }
}

fn is_map_entry(message: &DescriptorProto) -> bool {
    message.options.as_ref().is_some_and(|options| options.map_entry())
}

fn field_says(message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    assert!(
        !field.proto3_optional(),
        "{}.{} is optional",
        message.name(),
        field.name()
    );
    let options = field.options.clone().unwrap_or_default();
    let FieldOptions {
        deprecated,
        packed,
        ctype,
        jstype,
        ..
    } = options;
    assert!(
        packed.is_none() && ctype.is_none() && jstype.is_none(),
        "{}.{}",
        message.name(),
        field.name()
    );
    let entry = message
        .nested_type
        .iter()
        .find(|nested| is_map_entry(nested) && field.type_name().ends_with(&format!(".{}", nested.name())));
    let kind = match entry {
        Some(entry) => format!("map<{}, {}>", type_of(&entry.field[0]), type_of(&entry.field[1])),
        None if field.label() == Label::Repeated => format!("repeated {}", type_of(field)),
        None => type_of(field),
    };
    says(
        &kind,
        i64::from(field.number()),
        field.json_name(),
        deprecated.unwrap_or(false),
    )
}

fn says(kind: &str, number: i64, json: &str, deprecated: bool) -> String {
    format!("{kind} = {number}, json {json}, deprecated {deprecated}")
}

fn type_of(field: &FieldDescriptorProto) -> String {
    match field.r#type() {
        Type::Message => format!("message {}", local(field.type_name())),
        Type::Enum => format!("enum {}", local(field.type_name())),
        scalar @ (Type::Double
        | Type::Float
        | Type::Int64
        | Type::Uint64
        | Type::Int32
        | Type::Fixed64
        | Type::Fixed32
        | Type::Bool
        | Type::String
        | Type::Group
        | Type::Bytes
        | Type::Uint32
        | Type::Sfixed32
        | Type::Sfixed64
        | Type::Sint32
        | Type::Sint64) => scalar.as_str_name().trim_start_matches("TYPE_").to_lowercase(),
    }
}

fn local(name: &str) -> &str {
    name.strip_prefix(PACKAGE).unwrap_or(name)
}

fn enum_facts(facts: &mut Facts, scope: &str, enumeration: &EnumDescriptorProto) {
    let name = format!("{scope}{}", enumeration.name());
    assert!(enumeration.options.is_none(), "{name} has options");
    state(facts, format!("enum {name}"), String::new());
    for value in &enumeration.value {
        state(
            facts,
            format!("value {name}.{}", value.name()),
            value.number().to_string(),
        );
    }
}

fn service_facts(facts: &mut Facts, service: &ServiceDescriptorProto) {
    for method in &service.method {
        let MethodDescriptorProto {
            name: _,
            input_type,
            output_type,
            options: _,
            client_streaming,
            server_streaming,
        } = method;
        let about = format!("rpc /runtime.v1.{}/{}", service.name(), method.name());
        let input = local(input_type.as_deref().unwrap_or_default());
        let output = local(output_type.as_deref().unwrap_or_default());
        let streams = [client_streaming.unwrap_or(false), server_streaming.unwrap_or(false)];
        state(facts, about, rpc_says(input, output, streams));
    }
}

fn rpc_says(input: &str, output: &str, streams: [bool; 2]) -> String {
    format!("{input} -> {output}, streaming {streams:?}")
}

// === from the golden data ===

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}

fn flag(value: &Value, key: &str) -> bool {
    value[key].as_bool().unwrap_or(false)
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().expect("an object").iter()
}

fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value[key].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn facts_of_golden(golden: &Value) -> Facts {
    let mut facts = Facts::new();
    for (name, message) in entries(&golden["messages"]) {
        state(&mut facts, format!("message {name}"), String::new());
        for field in list(message, "fields") {
            let about = format!("field {name}.{}", text(field, "name"));
            state(&mut facts, about, golden_field_says(field));
        }
    }
    for (name, enumeration) in entries(&golden["enums"]) {
        state(&mut facts, format!("enum {name}"), String::new());
        for value in list(enumeration, "values") {
            state(
                &mut facts,
                format!("value {name}.{}", text(value, "name")),
                value["number"].to_string(),
            );
        }
    }
    for (_, service) in entries(&golden["services"]) {
        for rpc in list(service, "rpcs") {
            let streams = [flag(rpc, "client_streaming"), flag(rpc, "server_streaming")];
            let says = rpc_says(text(rpc, "request"), text(rpc, "response"), streams);
            state(&mut facts, format!("rpc {}", text(rpc, "path")), says);
        }
    }
    facts
}

fn golden_field_says(field: &Value) -> String {
    let kind = match text(field, "type") {
        "map" => format!("map<{}, {}>", text(field, "map_key"), text(field, "map_value")),
        named @ ("message" | "enum") => format!("{named} {}", text(field, "type_name")),
        scalar => scalar.to_owned(),
    };
    let kind = if flag(field, "repeated") {
        format!("repeated {kind}")
    } else {
        kind
    };
    let number = field["number"].as_i64().expect("a field number");
    says(&kind, number, text(field, "json_name"), flag(field, "deprecated"))
}

// === comparing ===

/// Every difference, both ways.
fn differences(ours: &Facts, golden: &Facts) -> Vec<String> {
    let missing = golden
        .iter()
        .filter(|(about, _)| !ours.contains_key(*about))
        .map(|(about, _)| format!("no {about}"));
    let other = ours.iter().filter_map(|(about, says)| match golden.get(about) {
        None => Some(format!("extra {about}")),
        Some(wanted) if wanted != says => Some(format!("{about}: {says}, golden: {wanted}")),
        Some(_) => None,
    });
    missing.chain(other).collect()
}

#[test]
fn the_wire_is_cri_v1_exactly() {
    let (ours, golden) = (facts_of_descriptors(&compiled()), facts_of_golden(&golden()));
    assert_eq!(differences(&ours, &golden), Vec::<String>::new());
    let count = |prefix: &str| ours.keys().filter(|about| about.starts_with(prefix)).count();
    let counts = ["message ", "field ", "enum ", "value ", "rpc "].map(count);
    assert_eq!(counts, [175, 478, 11, 95, 43]);
}

/// prost-types does not know `debug_redact`, so what it stands for is compared: what Debug hides.
#[test]
fn debug_hides_the_fields_that_the_golden_data_says() {
    let golden = golden();
    let mut wanted = Vec::new();
    for (name, message) in entries(&golden["messages"]) {
        let redacted = list(message, "fields")
            .iter()
            .filter(|field| flag(field, "debug_redact"));
        wanted.extend(redacted.map(|field| format!("{name}.{}", text(field, "name"))));
    }
    let set = "set-by-the-test".to_owned();
    let one = |change: fn(&mut AuthConfig, String)| {
        let mut auth = AuthConfig::default();
        change(&mut auth, set.clone());
        !format!("{auth:?}").contains(&set)
    };
    let hidden = [
        ("AuthConfig.username", one(|auth, set| auth.username = set)),
        ("AuthConfig.password", one(|auth, set| auth.password = set)),
        ("AuthConfig.auth", one(|auth, set| auth.auth = set)),
        ("AuthConfig.server_address", one(|auth, set| auth.server_address = set)),
        ("AuthConfig.identity_token", one(|auth, set| auth.identity_token = set)),
        ("AuthConfig.registry_token", one(|auth, set| auth.registry_token = set)),
    ];
    let hidden: Vec<_> = hidden
        .into_iter()
        .filter(|(_, hidden)| *hidden)
        .map(|(name, _)| name.to_owned())
        .collect();
    assert_eq!(hidden, wanted);
}

/// Changes one thing in the compiled descriptors and says what the comparer made of it.
fn doctored(change: impl FnOnce(&mut FileDescriptorSet)) -> Vec<String> {
    let mut set = compiled();
    change(&mut set);
    differences(&facts_of_descriptors(&set), &facts_of_golden(&golden()))
}

fn message<'s>(set: &'s mut FileDescriptorSet, name: &str) -> &'s mut DescriptorProto {
    let mut all = set.file.iter_mut().flat_map(|file| &mut file.message_type);
    all.find(|message| message.name() == name).expect(name)
}

fn method(set: &mut FileDescriptorSet) -> &mut MethodDescriptorProto {
    let mut services = set.file.iter_mut().flat_map(|file| &mut file.service);
    &mut services.next().expect("a service").method[0]
}

fn first_enum(set: &mut FileDescriptorSet) -> &mut EnumDescriptorProto {
    set.file
        .iter_mut()
        .flat_map(|file| &mut file.enum_type)
        .next()
        .expect("an enum")
}

#[test]
fn the_comparer_sees_every_kind_of_change() {
    type Change = fn(&mut FileDescriptorSet);
    let changes: &[(&str, Change)] = &[
        ("number", |set| message(set, "ImageSpec").field[2].number = Some(3)),
        ("name", |set| {
            message(set, "Mount").field[5].name = Some("uid_mappings".into())
        }),
        ("json name", |set| {
            message(set, "PsiStats").field[0].json_name = Some("full".into())
        }),
        ("type", |set| {
            message(set, "ContainerStatus").field[6].set_type(Type::Int64)
        }),
        ("type name", |set| {
            message(set, "CpuUsage").field[1].type_name = Some(".runtime.v1.Int64Value".into())
        }),
        ("label", |set| message(set, "Image").field[1].set_label(Label::Optional)),
        ("map to message", |set| {
            message(set, "ImageSpec").nested_type[0].options = None
        }),
        ("deprecation", |set| {
            message(set, "LinuxContainerSecurityContext").field[8].options = None
        }),
        ("lost field", |set| message(set, "Mount").field.truncate(10)),
        ("lost message", |set| {
            message(set, "Namespace").name = Some("Namespaces".into())
        }),
        ("enum value", |set| first_enum(set).value[0].number = Some(7)),
        ("enum value name", |set| {
            first_enum(set).value[0].name = Some("WHATEVER".into())
        }),
        ("rpc name", |set| method(set).name = Some("version".into())),
        ("rpc reply", |set| {
            method(set).output_type = Some(".runtime.v1.VersionRequest".into())
        }),
        ("rpc streaming", |set| method(set).server_streaming = Some(true)),
    ];
    for (what, change) in changes {
        assert_ne!(doctored(*change), Vec::<String>::new(), "a changed {what} was not seen");
    }
}
