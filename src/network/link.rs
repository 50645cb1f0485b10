//! The links, addresses and routes that the built-in network is made of (rtnetlink(7)).

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::netlink::{CREATE, EXCLUSIVE, Message, Socket, attributes, u32_at};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_GATEWAY: u16 = 5;

const AF_INET: u8 = 2;
const IFF_UP: u32 = 1;

/// A veth pair to make: one end on a bridge here, the other born inside a pod.
#[derive(Debug)]
pub(super) struct Veth<'a> {
    /// Name of the end here.
    pub(super) host: &'a str,
    /// Name of the end in the pod.
    pub(super) peer: &'a str,
    /// Hardware address of the end in the pod.
    pub(super) mac: [u8; 6],
    /// Index of the bridge.
    pub(super) bridge: u32,
    /// The pod's network namespace.
    pub(super) netns: BorrowedFd<'a>,
}

/// Makes the pair, the end here up. The peer is made inside its namespace (moving it there would cost 12–36 ms), and
/// cannot be brought up before it knows its other end (ENOTCONN): see [`set_up`].
pub(super) fn add_veth(socket: &Socket, veth: &Veth<'_>) -> io::Result<()> {
    let peer = |message: Message| {
        message
            .raw(&ifinfo(0, 0))
            .attr_str(IFLA_IFNAME, veth.peer)
            .attr(IFLA_ADDRESS, &veth.mac)
            .attr(IFLA_NET_NS_FD, &veth.netns.as_raw_fd().to_ne_bytes())
    };
    socket.request(
        Message::new(RTM_NEWLINK, CREATE | EXCLUSIVE, &ifinfo(0, IFF_UP))
            .attr_str(IFLA_IFNAME, veth.host)
            .attr_u32(IFLA_MASTER, veth.bridge)
            .nest(IFLA_LINKINFO, |info| {
                info.attr_str(IFLA_INFO_KIND, "veth")
                    .nest(IFLA_INFO_DATA, |data| data.nest(VETH_INFO_PEER, peer))
            }),
    )
}

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    /// Its index.
    pub(super) index: u32,
    /// Its kind (`bridge`, `veth`, …); empty for hardware.
    pub(super) kind: String,
    /// What its maker wrote on it.
    pub(super) alias: String,
}

/// Makes a bridge that bears `alias` from the moment it has its name; it is down. `draft` is a name for the time before,
/// which nobody else uses: what lies there is left over from a start that was cut short.
pub(super) fn make_bridge(socket: &Socket, name: &str, draft: &str, alias: &str) -> io::Result<u32> {
    delete(socket, draft)?;
    socket.request(
        Message::new(RTM_NEWLINK, CREATE | EXCLUSIVE, &ifinfo(0, 0))
            .attr_str(IFLA_IFNAME, draft)
            .nest(IFLA_LINKINFO, |info| info.attr_str(IFLA_INFO_KIND, "bridge")),
    )?;
    // The kernel takes an alias for an existing link only.
    let marked = index_of(socket, draft).and_then(|index| {
        let change = || Message::new(RTM_NEWLINK, 0, &ifinfo_of(index));
        socket.request(change().attr(IFLA_IFALIAS, alias.as_bytes()))?;
        socket.request(change().attr_str(IFLA_IFNAME, name))?;
        Ok(index)
    });
    if marked.is_err() {
        delete(socket, draft)?;
    }
    marked
}

/// What has this name, if anything.
pub(super) fn find(socket: &Socket, name: &str) -> io::Result<Option<Link>> {
    let question = Message::new(RTM_GETLINK, 0, &ifinfo(0, 0)).attr_str(IFLA_IFNAME, name);
    let answer = match socket.ask(question) {
        Err(error) if error.raw_os_error() == Some(ENODEV) => return Ok(None),
        other => other?,
    };
    let told = answer.get(16..).unwrap_or_default();
    let value = |bytes, wanted| {
        attributes(bytes)
            .find(|(kind, _)| *kind == wanted)
            .map(|(_, value)| value)
    };
    let text = |value: Option<&[u8]>| {
        let text = String::from_utf8_lossy(value.unwrap_or_default());
        text.trim_end_matches('\0').to_owned()
    };
    Ok(Some(Link {
        index: u32_at(&answer, 4).ok_or(io::ErrorKind::UnexpectedEof)?,
        kind: text(value(told, IFLA_LINKINFO).and_then(|info| value(info, IFLA_INFO_KIND))),
        alias: text(value(told, IFLA_IFALIAS)),
    }))
}

/// Brings a link up.
pub(super) fn set_up(socket: &Socket, index: u32) -> io::Result<()> {
    socket.request(Message::new(RTM_NEWLINK, 0, &ifinfo(index, IFF_UP)))
}

/// Removes a link; one that is gone already is fine.
pub(super) fn delete(socket: &Socket, name: &str) -> io::Result<()> {
    match socket.request(Message::new(RTM_DELLINK, 0, &ifinfo(0, 0)).attr_str(IFLA_IFNAME, name)) {
        Err(error) if error.raw_os_error() == Some(ENODEV) => Ok(()),
        other => other,
    }
}

/// The index of a link by name.
pub(super) fn index_of(socket: &Socket, name: &str) -> io::Result<u32> {
    let answer = socket.ask(Message::new(RTM_GETLINK, 0, &ifinfo(0, 0)).attr_str(IFLA_IFNAME, name))?;
    u32_at(&answer, 4).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// Gives a link an address; the same one again is fine.
pub(super) fn add_address(socket: &Socket, index: u32, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
    // struct ifaddrmsg: family, prefix length, flags, scope (global), index.
    let mut fixed = vec![AF_INET, prefix, 0, 0];
    fixed.extend_from_slice(&index.to_ne_bytes());
    let added = socket.request(
        Message::new(RTM_NEWADDR, CREATE | EXCLUSIVE, &fixed)
            .attr(IFA_LOCAL, &address.octets())
            .attr(IFA_ADDRESS, &address.octets()),
    );
    unless_there(added)
}

/// The default route.
pub(super) fn add_default_route(socket: &Socket, gateway: Ipv4Addr) -> io::Result<()> {
    // struct rtmsg: family, dst_len, src_len, tos, table main (254), protocol boot (3), scope global (0), type unicast
    // (1), flags.
    let fixed = [AF_INET, 0, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0];
    unless_there(
        socket.request(Message::new(RTM_NEWROUTE, CREATE | EXCLUSIVE, &fixed).attr(RTA_GATEWAY, &gateway.octets())),
    )
}

const EEXIST: i32 = 17;
const ENODEV: i32 = 19;

fn unless_there(made: io::Result<()>) -> io::Result<()> {
    match made {
        Err(error) if error.raw_os_error() == Some(EEXIST) => Ok(()),
        other => other,
    }
}

/// The same for a change that leaves the flags alone.
fn ifinfo_of(index: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes
}

/// `struct ifinfomsg`: family, pad, type, index, flags, and which flags change.
fn ifinfo(index: u32, flags: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..16].copy_from_slice(&flags.to_ne_bytes());
    bytes
}
