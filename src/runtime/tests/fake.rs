//! A shim in this process: the same two sockets and services, and execs that are children of the test.

use std::collections::HashMap;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use containerd_shim_protos::api;
use containerd_shim_protos::shim_async::{Task, create_task};
use copepod_proto::bundle::{FD_SOCKET, TASK_SOCKET};
use copepod_proto::shim as own;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType, accept, bind, listen, recv, sendmsg, socket_with,
};
use tokio::net::UnixListener;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use ttrpc::r#async::TtrpcContext;
use ttrpc::{Code, Error, get_status};

/// How the shim behaves.
#[derive(Debug, Clone, Default)]
pub(super) struct Script {
    pub(super) silent: bool,
    pub(super) start_error: Option<String>,
    pub(super) kill_refused: bool,
    pub(super) command: String,
}

impl Script {
    pub(super) fn exec(command: &str) -> Self {
        Self {
            command: command.to_owned(),
            ..Self::default()
        }
    }
}

pub(super) struct FakeShim {
    script: Script,
    exit: watch::Sender<Option<u32>>,
    hang_up: Notify,
    killed: AtomicU32,
    execs: Mutex<HashMap<String, (Child, Vec<OwnedFd>)>>,
}

/// The handle on it.
pub(super) struct Fake {
    shim: Arc<FakeShim>,
    accepting: AbortHandle,
    task_socket: std::path::PathBuf,
}

impl Fake {
    pub(super) fn exit(&self, code: u32) {
        self.shim.exit.send_replace(Some(code));
    }

    /// Closes all connections, and goes on serving.
    pub(super) fn hang_up(&self) {
        self.shim.hang_up.notify_waiters();
    }

    /// As after SIGKILL: nobody listens, connections break.
    pub(super) async fn die(&self) {
        self.accepting.abort();
        // Until the listener is gone, the queue would still take connections.
        while std::os::unix::net::UnixStream::connect(&self.task_socket).is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        self.hang_up();
    }

    pub(super) fn killed(&self) -> u32 {
        self.shim.killed.load(Ordering::Relaxed)
    }
}

impl FakeShim {
    pub(super) async fn serve(dir: &Path, script: Script) -> Fake {
        let shim = Arc::new(Self {
            script,
            exit: watch::Sender::new(None),
            hang_up: Notify::new(),
            killed: AtomicU32::new(0),
            execs: Mutex::default(),
        });
        let task_socket = dir.join(TASK_SOCKET);
        let listener = UnixListener::bind(&task_socket).unwrap();
        let accepting = tokio::spawn(accept_clients(Arc::clone(&shim), listener)).abort_handle();
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        bind(&socket, &SocketAddrUnix::new(dir.join(FD_SOCKET)).unwrap()).unwrap();
        listen(&socket, 8).unwrap();
        let handing = Arc::clone(&shim);
        std::thread::spawn(move || hand_over(&handing, &socket));
        Fake {
            shim,
            accepting,
            task_socket,
        }
    }

    fn streams(&self, id: &str) -> Option<Vec<OwnedFd>> {
        self.execs
            .lock()
            .unwrap()
            .get_mut(id)
            .map(|(_, fds)| std::mem::take(fds))
    }
}

/// Each client gets a relay, which can be cut: a ttrpc server does not let go of its connections by itself.
async fn accept_clients(shim: Arc<FakeShim>, listener: UnixListener) {
    while let Ok((mut client, _)) = listener.accept().await {
        let shim = Arc::clone(&shim);
        tokio::spawn(async move {
            let (mut near, far) = tokio::io::duplex(1 << 16);
            let incoming = tokio_stream::once(Ok::<_, std::io::Error>(far));
            let mut server = ttrpc::r#async::Server::new()
                .add_listener(ttrpc::r#async::transport::Listener::new(incoming))
                .register_service(create_task(Arc::new(Service(Arc::clone(&shim)))))
                .register_service(own::create_shim(Arc::new(Service(Arc::clone(&shim)))));
            server.start().await.unwrap();
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut client, &mut near) => {}
                () = shim.hang_up.notified() => {}
            }
        });
    }
}

fn hand_over(shim: &FakeShim, socket: &OwnedFd) {
    while let Ok(client) = accept(socket) {
        let mut id = [0_u8; 256];
        let Ok((length, _)) = recv(&client, &mut id[..], RecvFlags::empty()) else {
            continue;
        };
        let streams = shim
            .streams(&String::from_utf8_lossy(&id[..length]))
            .unwrap_or_default();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let fds: Vec<_> = streams.iter().map(AsFd::as_fd).collect();
        let words: &[u8] = if fds.is_empty() { b"error: no such exec" } else { b"ok" };
        if !fds.is_empty() {
            assert!(ancillary.push(SendAncillaryMessage::ScmRights(&fds)));
        }
        sendmsg(&client, &[IoSlice::new(words)], &mut ancillary, SendFlags::NOSIGNAL).ok();
    }
}

struct Service(Arc<FakeShim>);

fn refuse<T>(code: Code, text: &str) -> ttrpc::Result<T> {
    Err(Error::RpcStatus(get_status(code, text)))
}

#[async_trait]
impl Task for Service {
    async fn state(&self, _: &TtrpcContext, _: api::StateRequest) -> ttrpc::Result<api::StateResponse> {
        if self.0.script.silent {
            std::future::pending::<()>().await;
        }
        Ok(api::StateResponse {
            pid: 77,
            status: api::Status::RUNNING.into(),
            ..Default::default()
        })
    }

    async fn start(&self, _: &TtrpcContext, _: api::StartRequest) -> ttrpc::Result<api::StartResponse> {
        match &self.0.script.start_error {
            Some(text) => refuse(Code::UNKNOWN, text),
            None => Ok(api::StartResponse::new()),
        }
    }

    async fn kill(&self, _: &TtrpcContext, _: api::KillRequest) -> ttrpc::Result<api::Empty> {
        if self.0.script.kill_refused {
            return refuse(Code::FAILED_PRECONDITION, "the container is stopped");
        }
        Ok(api::Empty::new())
    }

    async fn wait(&self, _: &TtrpcContext, _: api::WaitRequest) -> ttrpc::Result<api::WaitResponse> {
        let mut exit = self.0.exit.subscribe();
        let code = exit.wait_for(Option::is_some).await.unwrap().unwrap();
        Ok(api::WaitResponse {
            exit_status: code,
            ..Default::default()
        })
    }
}

#[async_trait]
impl own::Shim for Service {
    async fn exec(&self, _: &TtrpcContext, request: own::ExecRequest) -> ttrpc::Result<own::ExecResponse> {
        let mut child = Command::new("/bin/sh")
            .args(["-c", &self.0.script.command])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let streams = vec![child.stdout.take().unwrap().into(), child.stderr.take().unwrap().into()];
        self.0.execs.lock().unwrap().insert(request.exec_id, (child, streams));
        Ok(own::ExecResponse::new())
    }

    async fn wait_exec(&self, _: &TtrpcContext, request: own::WaitExecRequest) -> ttrpc::Result<own::WaitExecResponse> {
        loop {
            {
                let mut execs = self.0.execs.lock().unwrap();
                let Some((child, _)) = execs.get_mut(&request.exec_id) else {
                    return refuse(Code::NOT_FOUND, "no such exec");
                };
                if let Some(status) = child.try_wait().unwrap() {
                    return Ok(own::WaitExecResponse {
                        exit_code: status.code().unwrap_or(137),
                        ..Default::default()
                    });
                }
            }
            tokio::time::sleep(std::time::Duration::from_micros(200)).await;
        }
    }

    async fn kill_exec(&self, _: &TtrpcContext, request: own::KillExecRequest) -> ttrpc::Result<own::KillExecResponse> {
        let Some((mut child, _)) = self.0.execs.lock().unwrap().remove(&request.exec_id) else {
            return refuse(Code::NOT_FOUND, "no such exec");
        };
        child.kill().unwrap();
        child.wait().unwrap();
        self.0.killed.fetch_add(1, Ordering::Relaxed);
        Ok(own::KillExecResponse::new())
    }
}
