use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::base::id::PodId;

/// A directory with plugins written in shell; each call leaves a line "COMMAND NAME NETNS" in `calls`.
struct Fixture {
    top: tempfile::TempDir,
    cni: Arc<Cni>,
}

impl Fixture {
    fn new(plugins: &[(&str, &str)]) -> Self {
        let top = tempfile::tempdir().unwrap();
        let (bin, conf) = (top.path().join("bin"), top.path().join("conf"));
        fs::create_dir(&bin).unwrap();
        fs::create_dir(&conf).unwrap();
        for (name, script) in plugins {
            let log = top.path().join("calls");
            let text = format!(
                "#!/bin/sh\necho \"$CNI_COMMAND {name} $CNI_NETNS\" >> {}\n{script}\n",
                log.display()
            );
            fs::write(bin.join(name), text).unwrap();
            fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        let list: Vec<Value> = plugins
            .iter()
            .map(|(name, _)| serde_json::json!({"type": name, "capabilities": {"portMappings": true, "bandwidth": name.contains("bandwidth")}}))
            .collect();
        let text = serde_json::json!({"cniVersion": "1.0.0", "name": "net", "plugins": list}).to_string();
        fs::write(conf.join("10-net.conflist"), text).unwrap();
        let cni = Cni::open(conf, vec![bin]);
        Self { top, cni }
    }

    fn calls(&self) -> String {
        fs::read_to_string(self.top.path().join("calls")).unwrap_or_default()
    }
}

fn attach() -> Attach {
    Attach {
        pod: PodId::generate(),
        name: "web".into(),
        namespace: "default".into(),
        uid: "u".into(),
        netns: "/run/netns/x".into(),
        ports: vec![],
        annotations: Default::default(),
    }
}

fn detach_of(attach: &Attach, attachment: Option<Attachment>, netns: Option<PathBuf>) -> Detach {
    let Attach {
        pod,
        name,
        namespace,
        uid,
        netns: _,
        ports,
        annotations,
    } = attach.clone();
    Detach {
        pod,
        name,
        namespace,
        uid,
        netns,
        attachment,
        ports,
        annotations,
    }
}

const GIVES_IP: &str = r#"[ "$CNI_COMMAND" = ADD ] && echo '{"ips":[{"address":"fd00::2/64"},{"address":"10.9.8.7/24"}]}'
exit 0"#;
const CHAINED: &str = r#"[ "$CNI_COMMAND" = ADD ] && sed 's/.*"prevResult":\({.*}\),"type".*/\1/'
exit 0"#;
const FAILS_ADD: &str =
    r#"if [ "$CNI_COMMAND" = ADD ]; then echo '{"code":7,"msg":"no luck","details":"at all"}'; exit 1; fi"#;

#[tokio::test]
async fn add_chains_results_and_del_runs_in_reverse_with_an_empty_path() {
    let fixture = Fixture::new(&[("main", GIVES_IP), ("extra", CHAINED)]);
    fixture.cni.ready().unwrap();
    let attach = attach();
    let attachment = fixture.cni.attach(&attach).await.unwrap();
    assert_eq!(attachment.ips[0].to_string(), "10.9.8.7");
    assert_eq!(attachment.ips[1].to_string(), "fd00::2");
    // Another network's file does not change how this pod is torn down.
    fs::write(fixture.cni.conf_dir.join("00-other.conflist"), "{}").unwrap();
    fixture
        .cni
        .detach(&detach_of(&attach, Some(attachment), None))
        .await
        .unwrap();
    assert_eq!(
        fixture.calls(),
        "ADD main /run/netns/x\nADD extra /run/netns/x\nDEL extra \nDEL main \n"
    );
}

#[tokio::test]
async fn what_no_plugin_can_do_is_refused_by_name_before_any_runs() {
    let mut attach = attach();
    attach.annotations = [("kubernetes.io/ingress-bandwidth".to_owned(), "10M".to_owned())].into();
    let plain = Fixture::new(&[("main", GIVES_IP)]);
    let error = plain.cni.attach(&attach).await.unwrap_err().to_string();
    assert!(error.contains("bandwidth") && error.contains("net"), "{error}");
    assert_eq!(plain.calls(), "");
    let able = Fixture::new(&[("main", GIVES_IP), ("bandwidth", "cat > $0.in")]);
    able.cni.attach(&attach).await.unwrap();
    let given = fs::read_to_string(able.top.path().join("bin/bandwidth.in")).unwrap();
    let given: Value = serde_json::from_str(&given).unwrap();
    assert_eq!(
        given["runtimeConfig"]["bandwidth"],
        serde_json::json!({"ingressRate": 10_000_000, "ingressBurst": u32::MAX})
    );
    attach.annotations = [("kubernetes.io/egress-bandwidth".to_owned(), "fast".to_owned())].into();
    let error = able.cni.attach(&attach).await.unwrap_err();
    assert!(matches!(error, NetworkError::Bandwidth { .. }), "{error}");
    // The same for ports: the list is what is left when portmap is taken out.
    fs::write(
        able.cni.conf_dir.join("00-bare.conflist"),
        r#"{"cniVersion":"1.0.0","name":"bare","plugins":[{"type":"main"}]}"#,
    )
    .unwrap();
    attach.annotations.clear();
    attach.ports = vec![crate::domain::network::PortMapping {
        protocol: crate::domain::network::Protocol::Tcp,
        container_port: 80,
        host_port: Some(8080),
        host_ip: String::new(),
    }];
    let error = able.cni.attach(&attach).await.unwrap_err().to_string();
    assert!(error.contains("host port 8080") && error.contains("portmap"), "{error}");
}

#[tokio::test]
async fn a_failed_add_is_undone_and_told() {
    let fixture = Fixture::new(&[("main", GIVES_IP), ("bad", FAILS_ADD)]);
    let error = fixture.cni.attach(&attach()).await.unwrap_err();
    assert_eq!(error.to_string(), "CNI plugin \"bad\" (ADD) failed: no luck: at all");
    assert_eq!(
        fixture.calls().lines().map(|call| &call[..6]).collect::<Vec<_>>(),
        ["ADD ma", "ADD ba", "DEL ba", "DEL ma"]
    );
}

#[tokio::test]
async fn readiness_names_the_missing_file_or_plugin() {
    let top = tempfile::tempdir().unwrap();
    let cni = Cni::open(top.path().to_owned(), vec![top.path().to_owned()]);
    assert!(
        cni.ready()
            .unwrap_err()
            .message
            .contains("there is no CNI configuration in")
    );
    fs::write(
        top.path().join("1.conflist"),
        r#"{"name":"n","plugins":[{"type":"absent"}]}"#,
    )
    .unwrap();
    let _told = cni.rescan();
    assert!(cni.ready().unwrap_err().message.contains("\"absent\""));
}

#[tokio::test]
async fn a_result_without_an_address_or_json_is_refused_and_undone() {
    for answer in ["echo '{}'", "echo garbage", "true"] {
        let fixture = Fixture::new(&[("odd", &format!("[ $CNI_COMMAND = ADD ] && {answer}; exit 0"))]);
        let error = fixture.cni.attach(&attach()).await.unwrap_err();
        assert!(matches!(error, NetworkError::Answer { .. }), "{error}");
        assert!(fixture.calls().contains("DEL odd"));
    }
}

#[test]
fn a_plugin_type_that_climbs_is_refused() {
    let error = config::parse_stored(r#"{"name":"n","plugins":[{"type":"../../bin/sh"}]}"#).unwrap_err();
    assert!(error.to_string().contains("name of a binary"), "{error}");
}
