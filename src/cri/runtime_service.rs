//! The runtime service: each call decodes, runs its verb, encodes.

use copepod_proto::cri as wire;
use tonic::{Request, Status};
use wire::runtime_service_server::RuntimeService;

use super::layer::{Call, Reply};
use super::{decode, encode};
use crate::ops::Ops;

/// The stream of a call that is not built.
pub(super) type Never<T> = futures_util::stream::Empty<Result<T, Status>>;

/// Answers pod and container calls.
#[derive(Debug)]
pub(super) struct Pods {
    ops: Ops,
}

impl Pods {
    pub(super) fn new(ops: Ops) -> Self {
        Self { ops }
    }
}

#[tonic::async_trait]
impl RuntimeService for Pods {
    async fn version(&self, request: Request<wire::VersionRequest>) -> Reply<wire::VersionResponse> {
        let wire::VersionRequest {
            version: _, /* the client's; not judged */
        } = request.into_inner();
        Call::new("Version").answer(async { Ok(encode::node::version()) }).await
    }

    async fn run_pod_sandbox(
        &self,
        request: Request<wire::RunPodSandboxRequest>,
    ) -> Reply<wire::RunPodSandboxResponse> {
        let request = request.into_inner();
        let metadata = request.config.as_ref().and_then(|config| config.metadata.as_ref());
        let named = metadata.map(|metadata| format!("{}/{}", metadata.namespace, metadata.name));
        let call = Call::pod("RunPodSandbox", &named.unwrap_or_default());
        let body = async {
            let id = self.ops.run_pod(decode::pod::run(request)?).await?;
            Ok(wire::RunPodSandboxResponse {
                pod_sandbox_id: id.to_string(),
            })
        };
        call.answer(body).await
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<wire::StopPodSandboxRequest>,
    ) -> Reply<wire::StopPodSandboxResponse> {
        let wire::StopPodSandboxRequest { pod_sandbox_id } = request.into_inner();
        let call = Call::pod("StopPodSandbox", &pod_sandbox_id);
        let body = async {
            self.ops
                .stop_pod(&decode::id::required("pod_sandbox_id", pod_sandbox_id)?)
                .await?;
            Ok(wire::StopPodSandboxResponse {})
        };
        call.answer(body).await
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<wire::RemovePodSandboxRequest>,
    ) -> Reply<wire::RemovePodSandboxResponse> {
        let wire::RemovePodSandboxRequest { pod_sandbox_id } = request.into_inner();
        let call = Call::pod("RemovePodSandbox", &pod_sandbox_id);
        let body = async {
            self.ops
                .remove_pod(&decode::id::required("pod_sandbox_id", pod_sandbox_id)?)
                .await?;
            Ok(wire::RemovePodSandboxResponse {})
        };
        call.answer(body).await
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<wire::PodSandboxStatusRequest>,
    ) -> Reply<wire::PodSandboxStatusResponse> {
        let wire::PodSandboxStatusRequest {
            pod_sandbox_id,
            verbose,
        } = request.into_inner();
        let call = Call::pod("PodSandboxStatus", &pod_sandbox_id);
        let body = async {
            let id = decode::id::required("pod_sandbox_id", pod_sandbox_id)?;
            let pod = self.ops.pod(&id).await?;
            let info = match verbose {
                true => encode::info::pod(&pod, self.ops.pod_details(&id).await?),
                false => Default::default(),
            };
            Ok(wire::PodSandboxStatusResponse {
                status: Some(encode::pod::status(&pod)),
                info,
                // For clients that follow events, which are not built: both or neither.
                containers_statuses: Vec::new(),
                timestamp: 0,
            })
        };
        call.answer(body).await
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<wire::ListPodSandboxRequest>,
    ) -> Reply<wire::ListPodSandboxResponse> {
        let wire::ListPodSandboxRequest { filter } = request.into_inner();
        let body = async {
            let pods = self.ops.pods(&decode::filter::pods(filter)?).await?;
            Ok(wire::ListPodSandboxResponse {
                items: pods.iter().map(|pod| encode::pod::item(pod)).collect(),
            })
        };
        Call::new("ListPodSandbox").answer(body).await
    }

    async fn create_container(
        &self,
        request: Request<wire::CreateContainerRequest>,
    ) -> Reply<wire::CreateContainerResponse> {
        let request = request.into_inner();
        let call = Call::pod("CreateContainer", &request.pod_sandbox_id);
        let body = async {
            let id = self.ops.create_container(decode::container::create(request)?).await?;
            Ok(wire::CreateContainerResponse {
                container_id: id.to_string(),
            })
        };
        call.answer(body).await
    }

    async fn start_container(
        &self,
        request: Request<wire::StartContainerRequest>,
    ) -> Reply<wire::StartContainerResponse> {
        let wire::StartContainerRequest { container_id } = request.into_inner();
        let call = Call::container("StartContainer", &container_id);
        let body = async {
            self.ops
                .start_container(&decode::id::required("container_id", container_id)?)
                .await?;
            Ok(wire::StartContainerResponse {})
        };
        call.answer(body).await
    }

    async fn stop_container(&self, request: Request<wire::StopContainerRequest>) -> Reply<wire::StopContainerResponse> {
        let request = request.into_inner();
        let call = Call::container("StopContainer", &request.container_id);
        let body = async {
            let (id, mode) = decode::exec::stop(request)?;
            self.ops.stop_container(&id, mode).await?;
            Ok(wire::StopContainerResponse {})
        };
        call.answer(body).await
    }

    async fn remove_container(
        &self,
        request: Request<wire::RemoveContainerRequest>,
    ) -> Reply<wire::RemoveContainerResponse> {
        let wire::RemoveContainerRequest { container_id } = request.into_inner();
        let call = Call::container("RemoveContainer", &container_id);
        let body = async {
            self.ops
                .remove_container(&decode::id::required("container_id", container_id)?)
                .await?;
            Ok(wire::RemoveContainerResponse {})
        };
        call.answer(body).await
    }

    async fn list_containers(
        &self,
        request: Request<wire::ListContainersRequest>,
    ) -> Reply<wire::ListContainersResponse> {
        let wire::ListContainersRequest { filter } = request.into_inner();
        let body = async {
            let found = self.ops.containers(&decode::filter::containers(filter)?).await?;
            let containers = found
                .iter()
                .map(|container| encode::container::item(container))
                .collect();
            Ok(wire::ListContainersResponse { containers })
        };
        Call::new("ListContainers").answer(body).await
    }

    async fn container_status(
        &self,
        request: Request<wire::ContainerStatusRequest>,
    ) -> Reply<wire::ContainerStatusResponse> {
        let wire::ContainerStatusRequest { container_id, verbose } = request.into_inner();
        let call = Call::container("ContainerStatus", &container_id);
        let body = async {
            let id = decode::id::required("container_id", container_id)?;
            let container = self.ops.container(&id).await?;
            let info = match verbose {
                true => encode::info::container(&container, &self.ops.container_details(&id).await?),
                false => Default::default(),
            };
            Ok(wire::ContainerStatusResponse {
                status: Some(encode::container::status(&container)),
                info,
            })
        };
        call.answer(body).await
    }

    async fn reopen_container_log(
        &self,
        request: Request<wire::ReopenContainerLogRequest>,
    ) -> Reply<wire::ReopenContainerLogResponse> {
        let wire::ReopenContainerLogRequest { container_id } = request.into_inner();
        let call = Call::container("ReopenContainerLog", &container_id);
        let body = async {
            self.ops
                .reopen_log(&decode::id::required("container_id", container_id)?)
                .await?;
            Ok(wire::ReopenContainerLogResponse {})
        };
        call.answer(body).await
    }

    async fn exec_sync(&self, request: Request<wire::ExecSyncRequest>) -> Reply<wire::ExecSyncResponse> {
        let request = request.into_inner();
        let call = Call::container("ExecSync", &request.container_id);
        let body = async {
            let output = self.ops.exec_sync(decode::exec::sync(request)?).await?;
            Ok(wire::ExecSyncResponse {
                stdout: output.stdout,
                stderr: output.stderr,
                exit_code: output.code,
            })
        };
        call.answer(body).await
    }

    async fn container_stats(
        &self,
        request: Request<wire::ContainerStatsRequest>,
    ) -> Reply<wire::ContainerStatsResponse> {
        let wire::ContainerStatsRequest { container_id } = request.into_inner();
        let call = Call::container("ContainerStats", &container_id);
        let body = async {
            let stats = self
                .ops
                .container_stats(&decode::id::required("container_id", container_id)?)
                .await?;
            let stores = self.ops.image_fs_info().await?;
            Ok(wire::ContainerStatsResponse {
                stats: Some(encode::stats::container_stats(&stats, stores.first())),
            })
        };
        call.answer(body).await
    }

    async fn list_container_stats(
        &self,
        request: Request<wire::ListContainerStatsRequest>,
    ) -> Reply<wire::ListContainerStatsResponse> {
        let wire::ListContainerStatsRequest { filter } = request.into_inner();
        let body = async {
            let found = self.ops.list_container_stats(&decode::filter::stats(filter)?).await?;
            let stores = self.ops.image_fs_info().await?;
            let stats = found
                .iter()
                .map(|stats| encode::stats::container_stats(stats, stores.first()))
                .collect();
            Ok(wire::ListContainerStatsResponse { stats })
        };
        Call::new("ListContainerStats").answer(body).await
    }

    async fn status(&self, request: Request<wire::StatusRequest>) -> Reply<wire::StatusResponse> {
        let wire::StatusRequest { verbose } = request.into_inner();
        let body = async {
            let mut response = encode::node::status(&self.ops.conditions().await?);
            if verbose {
                let stores = self.ops.image_fs_info().await?;
                response.info = encode::info::runtime(self.ops.cgroup_driver(), &stores);
            }
            Ok(response)
        };
        Call::new("Status").answer(body).await
    }

    async fn update_runtime_config(
        &self,
        request: Request<wire::UpdateRuntimeConfigRequest>,
    ) -> Reply<wire::UpdateRuntimeConfigResponse> {
        let wire::UpdateRuntimeConfigRequest { runtime_config } = request.into_inner();
        let body = async {
            let wire::RuntimeConfig { network_config } = runtime_config.unwrap_or_default();
            let wire::NetworkConfig { pod_cidr } = network_config.unwrap_or_default();
            self.ops.update_runtime_config(&pod_cidr).await?;
            Ok(wire::UpdateRuntimeConfigResponse {})
        };
        Call::new("UpdateRuntimeConfig").answer(body).await
    }

    async fn runtime_config(&self, request: Request<wire::RuntimeConfigRequest>) -> Reply<wire::RuntimeConfigResponse> {
        let wire::RuntimeConfigRequest {} = request.into_inner();
        let body = async { Ok(encode::node::runtime_config(self.ops.cgroup_driver())) };
        Call::new("RuntimeConfig").answer(body).await
    }

    // From here on: what is not built, each refused by its own name.

    async fn update_container_resources(
        &self,
        _: Request<wire::UpdateContainerResourcesRequest>,
    ) -> Reply<wire::UpdateContainerResourcesResponse> {
        Call::new("UpdateContainerResources").not_built()
    }

    async fn update_pod_sandbox_resources(
        &self,
        _: Request<wire::UpdatePodSandboxResourcesRequest>,
    ) -> Reply<wire::UpdatePodSandboxResourcesResponse> {
        Call::new("UpdatePodSandboxResources").not_built()
    }

    async fn exec(&self, _: Request<wire::ExecRequest>) -> Reply<wire::ExecResponse> {
        Call::new("Exec").not_built()
    }

    async fn attach(&self, _: Request<wire::AttachRequest>) -> Reply<wire::AttachResponse> {
        Call::new("Attach").not_built()
    }

    async fn port_forward(&self, _: Request<wire::PortForwardRequest>) -> Reply<wire::PortForwardResponse> {
        Call::new("PortForward").not_built()
    }

    async fn pod_sandbox_stats(
        &self,
        _: Request<wire::PodSandboxStatsRequest>,
    ) -> Reply<wire::PodSandboxStatsResponse> {
        Call::new("PodSandboxStats").not_built()
    }

    async fn list_pod_sandbox_stats(
        &self,
        _: Request<wire::ListPodSandboxStatsRequest>,
    ) -> Reply<wire::ListPodSandboxStatsResponse> {
        Call::new("ListPodSandboxStats").not_built()
    }

    async fn checkpoint_container(
        &self,
        _: Request<wire::CheckpointContainerRequest>,
    ) -> Reply<wire::CheckpointContainerResponse> {
        Call::new("CheckpointContainer").not_built()
    }

    async fn checkpoint_pod(&self, _: Request<wire::CheckpointPodRequest>) -> Reply<wire::CheckpointPodResponse> {
        Call::new("CheckpointPod").not_built()
    }

    async fn restore_pod(&self, _: Request<wire::RestorePodRequest>) -> Reply<wire::RestorePodResponse> {
        Call::new("RestorePod").not_built()
    }

    async fn list_metric_descriptors(
        &self,
        _: Request<wire::ListMetricDescriptorsRequest>,
    ) -> Reply<wire::ListMetricDescriptorsResponse> {
        Call::new("ListMetricDescriptors").not_built()
    }

    async fn list_pod_sandbox_metrics(
        &self,
        _: Request<wire::ListPodSandboxMetricsRequest>,
    ) -> Reply<wire::ListPodSandboxMetricsResponse> {
        Call::new("ListPodSandboxMetrics").not_built()
    }

    type GetContainerEventsStream = Never<wire::ContainerEventResponse>;

    async fn get_container_events(&self, _: Request<wire::GetEventsRequest>) -> Reply<Self::GetContainerEventsStream> {
        Call::new("GetContainerEvents").not_built()
    }

    type StreamPodSandboxesStream = Never<wire::StreamPodSandboxesResponse>;

    async fn stream_pod_sandboxes(
        &self,
        _: Request<wire::StreamPodSandboxesRequest>,
    ) -> Reply<Self::StreamPodSandboxesStream> {
        Call::new("StreamPodSandboxes").not_built()
    }

    type StreamContainersStream = Never<wire::StreamContainersResponse>;

    async fn stream_containers(
        &self,
        _: Request<wire::StreamContainersRequest>,
    ) -> Reply<Self::StreamContainersStream> {
        Call::new("StreamContainers").not_built()
    }

    type StreamContainerStatsStream = Never<wire::StreamContainerStatsResponse>;

    async fn stream_container_stats(
        &self,
        _: Request<wire::StreamContainerStatsRequest>,
    ) -> Reply<Self::StreamContainerStatsStream> {
        Call::new("StreamContainerStats").not_built()
    }

    type StreamPodSandboxStatsStream = Never<wire::StreamPodSandboxStatsResponse>;

    async fn stream_pod_sandbox_stats(
        &self,
        _: Request<wire::StreamPodSandboxStatsRequest>,
    ) -> Reply<Self::StreamPodSandboxStatsStream> {
        Call::new("StreamPodSandboxStats").not_built()
    }

    type StreamPodSandboxMetricsStream = Never<wire::StreamPodSandboxMetricsResponse>;

    async fn stream_pod_sandbox_metrics(
        &self,
        _: Request<wire::StreamPodSandboxMetricsRequest>,
    ) -> Reply<Self::StreamPodSandboxMetricsStream> {
        Call::new("StreamPodSandboxMetrics").not_built()
    }
}
