//! A kubelet-shaped pod: private PID namespace, the default seccomp filter, one `sleep`; and the CRI calls of its life.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};

use copepod_proto::cri;
use copepod_proto::cri::image_service_client::ImageServiceClient;
use copepod_proto::cri::runtime_service_client::RuntimeServiceClient;
use tonic::transport::{Channel, Uri};

use crate::error::BenchError;

const IMAGE: &str = "docker.io/library/busybox:1";

/// A held runtime: its name in the tables and its directory, which has `cri.sock`, `cgroup`, `daemon.pid` and `data`.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    pub(crate) name: String,
    pub(crate) dir: PathBuf,
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((name, dir)) if !name.is_empty() && !dir.is_empty() => Ok(Self {
                name: name.to_owned(),
                dir: dir.into(),
            }),
            _ => Err("write it as NAME=DIRECTORY".to_owned()),
        }
    }
}

/// One connection to one runtime.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    endpoint: Endpoint,
    cgroup: String,
    runtime: RuntimeServiceClient<Channel>,
}

/// A pod that runs.
#[derive(Debug)]
pub(crate) struct Running {
    pod: String,
    container: String,
}

/// How long each step of getting there took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StartTimes {
    pub(crate) run: Duration,
    pub(crate) create: Duration,
    pub(crate) start: Duration,
}

/// How long each step of going away took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EndTimes {
    pub(crate) stop_container: Duration,
    pub(crate) stop_pod: Duration,
    pub(crate) remove: Duration,
}

impl Client {
    /// Connects, and pulls the image so that no measured step waits for it.
    pub(crate) async fn open(endpoint: &Endpoint) -> Result<Self, BenchError> {
        let socket = endpoint.dir.join("cri.sock");
        let path = socket.clone();
        let channel = tonic::transport::Endpoint::from_static("http://cri.invalid")
            .connect_with_connector(tower::service_fn(move |_: Uri| {
                let path = path.clone();
                async move {
                    tokio::net::UnixStream::connect(path)
                        .await
                        .map(hyper_util::rt::TokioIo::new)
                }
            }))
            .await
            .map_err(|source| BenchError::Connect { socket, source })?;
        let cgroup = read_text(endpoint.dir.join("cgroup"))?.trim().to_owned();
        let client = Self {
            endpoint: endpoint.clone(),
            cgroup,
            runtime: RuntimeServiceClient::new(channel.clone()),
        };
        let pull = cri::PullImageRequest {
            image: Some(image()),
            ..Default::default()
        };
        let answer = ImageServiceClient::new(channel).pull_image(pull).await;
        client.answered("PullImage", answer)?;
        Ok(client)
    }

    /// What a call costs that does nothing.
    pub(crate) async fn round_trip(&mut self) -> Result<Duration, BenchError> {
        let begin = Instant::now();
        let answer = self.runtime.version(cri::VersionRequest::default()).await;
        self.answered("Version", answer)?;
        Ok(begin.elapsed())
    }

    /// Runs a pod with one container; `serial` makes its name unique within this run of the bench.
    pub(crate) async fn start(&mut self, serial: u64) -> Result<(Running, StartTimes), BenchError> {
        let sandbox = self.sandbox_config(serial);
        let begin = Instant::now();
        let request = cri::RunPodSandboxRequest {
            config: Some(sandbox.clone()),
            runtime_handler: String::new(),
        };
        let answer = self.runtime.run_pod_sandbox(request).await;
        let pod = self.answered("RunPodSandbox", answer)?.pod_sandbox_id;
        let run = begin.elapsed();

        let begin = Instant::now();
        let request = cri::CreateContainerRequest {
            pod_sandbox_id: pod.clone(),
            config: Some(container_config()),
            sandbox_config: Some(sandbox),
        };
        let answer = self.runtime.create_container(request).await;
        let container = self.answered("CreateContainer", answer)?.container_id;
        let create = begin.elapsed();

        let begin = Instant::now();
        let request = cri::StartContainerRequest {
            container_id: container.clone(),
        };
        let answer = self.runtime.start_container(request).await;
        self.answered("StartContainer", answer)?;
        let start = begin.elapsed();
        Ok((Running { pod, container }, StartTimes { run, create, start }))
    }

    /// Runs `true` in the container.
    pub(crate) async fn exec(&mut self, running: &Running) -> Result<Duration, BenchError> {
        let request = cri::ExecSyncRequest {
            container_id: running.container.clone(),
            cmd: vec!["/bin/true".to_owned()],
            timeout: 10,
        };
        let begin = Instant::now();
        let answer = self.runtime.exec_sync(request).await;
        let reply = self.answered("ExecSync", answer)?;
        let took = begin.elapsed();
        if reply.exit_code != 0 {
            return Err(BenchError::ExecFailed {
                endpoint: self.endpoint.name.clone(),
                code: reply.exit_code,
            });
        }
        Ok(took)
    }

    /// Stops the container without a grace period, then the pod, and removes both.
    pub(crate) async fn end(&mut self, running: Running) -> Result<EndTimes, BenchError> {
        let Running { pod, container } = running;
        let begin = Instant::now();
        let request = cri::StopContainerRequest {
            container_id: container,
            timeout: 0,
        };
        let answer = self.runtime.stop_container(request).await;
        self.answered("StopContainer", answer)?;
        let stop_container = begin.elapsed();

        let begin = Instant::now();
        let request = cri::StopPodSandboxRequest {
            pod_sandbox_id: pod.clone(),
        };
        let answer = self.runtime.stop_pod_sandbox(request).await;
        self.answered("StopPodSandbox", answer)?;
        let stop_pod = begin.elapsed();

        let begin = Instant::now();
        let answer = self
            .runtime
            .remove_pod_sandbox(cri::RemovePodSandboxRequest { pod_sandbox_id: pod })
            .await;
        self.answered("RemovePodSandbox", answer)?;
        Ok(EndTimes {
            stop_container,
            stop_pod,
            remove: begin.elapsed(),
        })
    }

    /// The cgroup that every pod of this client lies in.
    pub(crate) fn cgroup(&self) -> &str {
        &self.cgroup
    }

    fn answered<T>(
        &self,
        step: &'static str,
        answer: Result<tonic::Response<T>, tonic::Status>,
    ) -> Result<T, BenchError> {
        answer
            .map(tonic::Response::into_inner)
            .map_err(|status| BenchError::Rpc {
                step,
                endpoint: self.endpoint.name.clone(),
                source: Box::new(status),
            })
    }

    fn sandbox_config(&self, serial: u64) -> cri::PodSandboxConfig {
        let uid = format!("bench-{}-{serial}", std::process::id());
        cri::PodSandboxConfig {
            metadata: Some(cri::PodSandboxMetadata {
                name: format!("bench-{serial}"),
                uid: uid.clone(),
                namespace: "bench".to_owned(),
                attempt: 0,
            }),
            hostname: format!("bench-{serial}"),
            log_directory: self.endpoint.dir.join("logs").join(uid).display().to_string(),
            linux: Some(cri::LinuxPodSandboxConfig {
                cgroup_parent: self.cgroup.clone(),
                security_context: Some(cri::LinuxSandboxSecurityContext {
                    namespace_options: Some(namespaces()),
                    seccomp: Some(default_seccomp()),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        }
    }
}

/// A small file's text.
pub(crate) fn read_text(path: PathBuf) -> Result<String, BenchError> {
    std::fs::read_to_string(&path).map_err(|source| BenchError::Read { path, source })
}

fn image() -> cri::ImageSpec {
    cri::ImageSpec {
        image: IMAGE.to_owned(),
        ..Default::default()
    }
}

fn namespaces() -> cri::NamespaceOption {
    cri::NamespaceOption {
        pid: cri::NamespaceMode::Container.into(),
        ..Default::default()
    }
}

fn default_seccomp() -> cri::SecurityProfile {
    cri::SecurityProfile {
        profile_type: cri::security_profile::ProfileType::RuntimeDefault.into(),
        ..Default::default()
    }
}

/// What kubelet sends for a best-effort container.
fn container_config() -> cri::ContainerConfig {
    cri::ContainerConfig {
        metadata: Some(cri::ContainerMetadata {
            name: "sleep".to_owned(),
            attempt: 0,
        }),
        image: Some(image()),
        command: vec!["/bin/sleep".to_owned(), "86400".to_owned()],
        log_path: "sleep.log".to_owned(),
        linux: Some(cri::LinuxContainerConfig {
            resources: Some(cri::LinuxContainerResources {
                cpu_period: 100_000,
                cpu_shares: 2,
                oom_score_adj: 1000,
                ..Default::default()
            }),
            security_context: Some(cri::LinuxContainerSecurityContext {
                namespace_options: Some(namespaces()),
                seccomp: Some(default_seccomp()),
                ..Default::default()
            }),
        }),
        ..Default::default()
    }
}
