//! Requests as kubelet makes them, to be varied by tests.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use copepod_proto::cri;

use crate::harness::{Client, busybox};
use crate::traces::cgroup_parent;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A pod sandbox with a name of its own, private PID namespaces and its logs below `top`.
pub(crate) fn pod(top: &Path) -> cri::PodSandboxConfig {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("pod-{number}");
    cri::PodSandboxConfig {
        metadata: Some(cri::PodSandboxMetadata {
            name: name.clone(),
            uid: format!("uid-{number}"),
            namespace: "default".to_owned(),
            attempt: 0,
        }),
        hostname: name.clone(),
        log_directory: top.join("logs").join(&name).to_str().unwrap().to_owned(),
        labels: BTreeMap::from([("io.kubernetes.pod.uid".to_owned(), format!("uid-{number}"))]),
        linux: Some(cri::LinuxPodSandboxConfig {
            cgroup_parent: cgroup_parent(top),
            security_context: Some(cri::LinuxSandboxSecurityContext {
                namespace_options: Some(private_pid()),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Pod network and IPC, a PID namespace per container: what kubelet asks for.
pub(crate) fn private_pid() -> cri::NamespaceOption {
    cri::NamespaceOption {
        pid: cri::NamespaceMode::Container.into(),
        ..Default::default()
    }
}

/// A busybox container that runs `script` with RuntimeDefault seccomp and logs to `<name>.log`.
pub(crate) fn container(name: &str, script: &str) -> cri::ContainerConfig {
    cri::ContainerConfig {
        metadata: Some(cri::ContainerMetadata {
            name: name.to_owned(),
            attempt: 0,
        }),
        image: Some(cri::ImageSpec {
            image: busybox(),
            ..Default::default()
        }),
        command: vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()],
        log_path: format!("{name}.log"),
        linux: Some(cri::LinuxContainerConfig {
            security_context: Some(cri::LinuxContainerSecurityContext {
                namespace_options: Some(private_pid()),
                seccomp: Some(cri::SecurityProfile::default()),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

impl Client {
    /// Pulls an image; returns its id.
    pub(crate) async fn pull(&mut self, image: &str) -> String {
        let image = Some(cri::ImageSpec {
            image: image.to_owned(),
            ..Default::default()
        });
        self.image
            .pull_image(cri::PullImageRequest {
                image,
                ..Default::default()
            })
            .await
            .unwrap()
            .into_inner()
            .image_ref
    }

    /// Runs a pod; returns its id.
    pub(crate) async fn run_pod(&mut self, config: &cri::PodSandboxConfig) -> Result<String, tonic::Status> {
        let request = cri::RunPodSandboxRequest {
            config: Some(config.clone()),
            ..Default::default()
        };
        Ok(self.runtime.run_pod_sandbox(request).await?.into_inner().pod_sandbox_id)
    }

    /// Creates a container; returns its id.
    pub(crate) async fn create(
        &mut self,
        pod: &str,
        pod_config: &cri::PodSandboxConfig,
        config: cri::ContainerConfig,
    ) -> Result<String, tonic::Status> {
        let request = cri::CreateContainerRequest {
            pod_sandbox_id: pod.to_owned(),
            config: Some(config),
            sandbox_config: Some(pod_config.clone()),
        };
        Ok(self.runtime.create_container(request).await?.into_inner().container_id)
    }

    /// Starts a container.
    pub(crate) async fn start(&mut self, container: &str) -> Result<(), tonic::Status> {
        self.runtime
            .start_container(cri::StartContainerRequest {
                container_id: container.to_owned(),
            })
            .await
            .map(drop)
    }

    /// Stops a container within `timeout` seconds.
    pub(crate) async fn stop(&mut self, container: &str, timeout: i64) -> Result<(), tonic::Status> {
        let container_id = container.to_owned();
        self.runtime
            .stop_container(cri::StopContainerRequest { container_id, timeout })
            .await
            .map(drop)
    }

    /// Removes a container.
    pub(crate) async fn remove(&mut self, container: &str) -> Result<(), tonic::Status> {
        self.runtime
            .remove_container(cri::RemoveContainerRequest {
                container_id: container.to_owned(),
            })
            .await
            .map(drop)
    }

    /// Stops a pod.
    pub(crate) async fn stop_pod(&mut self, pod: &str) -> Result<(), tonic::Status> {
        self.runtime
            .stop_pod_sandbox(cri::StopPodSandboxRequest {
                pod_sandbox_id: pod.to_owned(),
            })
            .await
            .map(drop)
    }

    /// Removes a pod.
    pub(crate) async fn remove_pod(&mut self, pod: &str) -> Result<(), tonic::Status> {
        self.runtime
            .remove_pod_sandbox(cri::RemovePodSandboxRequest {
                pod_sandbox_id: pod.to_owned(),
            })
            .await
            .map(drop)
    }

    /// A container's status.
    pub(crate) async fn status(&mut self, container: &str) -> Result<cri::ContainerStatus, tonic::Status> {
        let request = cri::ContainerStatusRequest {
            container_id: container.to_owned(),
            verbose: false,
        };
        Ok(self
            .runtime
            .container_status(request)
            .await?
            .into_inner()
            .status
            .unwrap())
    }

    /// A pod's status.
    pub(crate) async fn pod_status(&mut self, pod: &str) -> Result<cri::PodSandboxStatus, tonic::Status> {
        let request = cri::PodSandboxStatusRequest {
            pod_sandbox_id: pod.to_owned(),
            verbose: false,
        };
        Ok(self
            .runtime
            .pod_sandbox_status(request)
            .await?
            .into_inner()
            .status
            .unwrap())
    }

    /// Waits until a container has ended; returns its status.
    pub(crate) async fn ended(&mut self, container: &str) -> cri::ContainerStatus {
        for _ in 0..4_000 {
            let status = self.status(container).await.unwrap();
            if status.state() == cri::ContainerState::ContainerExited {
                return status;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        panic!("container {container} does not end");
    }

    /// Runs a script in a container and collects its output.
    pub(crate) async fn exec(&mut self, container: &str, script: &str) -> Result<cri::ExecSyncResponse, tonic::Status> {
        self.exec_within(container, script, 20).await
    }

    /// As [`Client::exec`], with a time-out in seconds.
    pub(crate) async fn exec_within(
        &mut self,
        container: &str,
        script: &str,
        timeout: i64,
    ) -> Result<cri::ExecSyncResponse, tonic::Status> {
        let cmd = vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()];
        let request = cri::ExecSyncRequest {
            container_id: container.to_owned(),
            cmd,
            timeout,
        };
        Ok(self.runtime.exec_sync(request).await?.into_inner())
    }

    /// What a script prints in a container.
    pub(crate) async fn output(&mut self, container: &str, script: &str) -> String {
        let done = self.exec(container, script).await.unwrap();
        assert_eq!(done.exit_code, 0, "{script}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap().trim_end().to_owned()
    }

    /// A pod with one running container: ids of both. The image must be there.
    pub(crate) async fn running(
        &mut self,
        pod_config: &cri::PodSandboxConfig,
        config: cri::ContainerConfig,
    ) -> (String, String) {
        let pod = self.run_pod(pod_config).await.unwrap();
        let container = self.create(&pod, pod_config, config).await.unwrap();
        self.start(&container).await.unwrap();
        (pod, container)
    }
}
