//! One connection to a shim, for both of its services, with a deadline for every call.

use std::fmt;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use containerd_shim_protos::shim_async::{Client, TaskClient};
use copepod_proto::bundle::TASK_SOCKET;
use copepod_proto::shim::ShimClient;
use tokio::net::UnixStream;
use ttrpc::asynchronous::transport::Socket;

use super::RuntimeError;
use crate::base::id::ContainerId;

/// For what the shim answers from memory. It has one thread and never blocks, so a second is a thousand times its
/// usual time; the rest is for a machine that swaps.
pub(super) const QUICK: Duration = Duration::from_secs(5);

/// A shim's connection; made anew after it broke.
pub(super) struct Connection {
    id: ContainerId,
    socket: PathBuf,
    client: Mutex<Client>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects to the shim of the bundle `dir`.
    ///
    /// # Errors
    /// [`RuntimeError::ShimGone`] when nobody listens there, [`RuntimeError::Connect`] when it may work later.
    pub(super) async fn open(id: &ContainerId, dir: &Path) -> Result<Self, RuntimeError> {
        let socket = dir.join(TASK_SOCKET);
        let client = Mutex::new(connect(id, &socket).await?);
        let id = id.clone();
        Ok(Self { id, socket, client })
    }

    /// Connects again.
    ///
    /// # Errors
    /// As [`Connection::open`].
    pub(super) async fn renew(&self) -> Result<(), RuntimeError> {
        let client = connect(&self.id, &self.socket).await?;
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = client;
        Ok(())
    }

    fn client(&self) -> Client {
        self.client.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The task API.
    pub(super) fn task(&self) -> TaskClient {
        TaskClient::new(self.client())
    }

    /// copepod's own service.
    pub(super) fn shim(&self) -> ShimClient {
        ShimClient::new(self.client())
    }

    /// Waits for the answer to `call`, `deadline` at most.
    ///
    /// # Errors
    /// Silent, gone or refused.
    pub(super) async fn answer<T>(
        &self,
        call: &'static str,
        deadline: Duration,
        pending: impl Future<Output = ttrpc::Result<T>>,
    ) -> Result<T, RuntimeError> {
        match tokio::time::timeout(deadline, pending).await {
            Ok(outcome) => outcome.map_err(|error| self.failed(call, error)),
            Err(_) => Err(RuntimeError::Silent {
                id: self.id.clone(),
                call,
                deadline,
            }),
        }
    }

    /// What an error of `call` means.
    pub(super) fn failed(&self, call: &'static str, error: ttrpc::Error) -> RuntimeError {
        match error {
            ttrpc::Error::RpcStatus(status) => RuntimeError::Refused {
                call,
                code: status.code(),
                text: status.message().to_owned(),
            },
            // Everything else comes from the transport: the request or the answer did not get through.
            source @ (ttrpc::Error::Socket(_)
            | ttrpc::Error::Nix(_)
            | ttrpc::Error::LocalClosed
            | ttrpc::Error::RemoteClosed
            | ttrpc::Error::Eof
            | ttrpc::Error::Others(_)) => RuntimeError::ShimGone {
                id: self.id.clone(),
                source: Some(source),
            },
        }
    }
}

/// The connection's background task ends with the socket, or when the last clone of the client is dropped.
async fn connect(id: &ContainerId, socket: &Path) -> Result<Client, RuntimeError> {
    match tokio::time::timeout(QUICK, UnixStream::connect(socket)).await {
        Ok(Ok(stream)) => Ok(Client::new(Socket::new(stream))),
        Ok(Err(error)) if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => {
            Err(RuntimeError::ShimGone {
                id: id.clone(),
                source: None,
            })
        }
        Ok(Err(source)) => Err(RuntimeError::Connect { id: id.clone(), source }),
        Err(_) => Err(RuntimeError::Silent {
            id: id.clone(),
            call: "connect",
            deadline: QUICK,
        }),
    }
}
