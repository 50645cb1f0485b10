//! One nftables table per bridge: what leaves the pods' subnet by another way than the bridge gets the host's address.
//! Spoken to the kernel directly (nf_tables over netlink), so that no tool need be installed; other tables are never
//! touched.

use std::io;
use std::net::Ipv4Addr;

use super::netlink::{APPEND, CREATE, Family, Message, Socket};

const SUBSYSTEM: u16 = 10 << 8;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEWTABLE: u16 = SUBSYSTEM;
const DELTABLE: u16 = SUBSYSTEM | 2;
const NEWCHAIN: u16 = SUBSYSTEM | 3;
const NEWRULE: u16 = SUBSYSTEM | 6;

/// `struct nfgenmsg` for IPv4.
const IPV4: [u8; 4] = [2, 0, 0, 0];
/// `struct nfgenmsg` that names the subsystem of a batch, in network byte order.
const BATCH: [u8; 4] = [0, 0, 0, 10];

const CHAIN: &str = "postrouting";
/// `NF_INET_POST_ROUTING`.
const POST_ROUTING: u32 = 4;
/// Where source translation belongs among the hooks (`NF_IP_PRI_NAT_SRC`).
const PRIORITY_SNAT: u32 = 100;
/// The one register these rules use (`NFT_REG_1`).
const REGISTER: u32 = 1;

/// Puts the table in place of what was there under its name, in one transaction.
pub(super) fn install(table: &str, network: Ipv4Addr, prefix: u8, bridge: &str) -> io::Result<()> {
    let named = |kind, flags| Message::new(kind, flags, &IPV4).attr_str(1, table);
    let chain = Message::new(NEWCHAIN, CREATE, &IPV4)
        .attr_str(1, table)
        .attr_str(3, CHAIN)
        .nest(4, |hook| hook.attr_be32(1, POST_ROUTING).attr_be32(2, PRIORITY_SNAT))
        .attr_str(7, "nat");
    let rule = Message::new(NEWRULE, CREATE | APPEND, &IPV4)
        .attr_str(1, table)
        .attr_str(2, CHAIN)
        .nest(4, |list| masquerade_outside(list, network, prefix, bridge));
    Socket::open(Family::Netfilter)?.batch(vec![
        Message::silent(BATCH_BEGIN, &BATCH),
        // Made first so that deleting it cannot fail: the usual way to replace a table whole.
        named(NEWTABLE, CREATE),
        named(DELTABLE, 0),
        named(NEWTABLE, CREATE),
        chain,
        rule,
        Message::silent(BATCH_END, &BATCH),
    ])
}

/// Removes the table; one that is gone already is fine.
pub(super) fn remove(table: &str) -> io::Result<()> {
    let named = |kind, flags| Message::new(kind, flags, &IPV4).attr_str(1, table);
    Socket::open(Family::Netfilter)?.batch(vec![
        Message::silent(BATCH_BEGIN, &BATCH),
        named(NEWTABLE, CREATE),
        named(DELTABLE, 0),
        Message::silent(BATCH_END, &BATCH),
    ])
}

/// ip saddr NETWORK/PREFIX oifname != BRIDGE masquerade
fn masquerade_outside(list: Message, network: Ipv4Addr, prefix: u8, bridge: &str) -> Message {
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0).to_be_bytes();
    let mut name = [0_u8; 16];
    name[..bridge.len().min(15)].copy_from_slice(&bridge.as_bytes()[..bridge.len().min(15)]);
    let list = expression(list, "payload", |data| {
        // The source address: 4 bytes at offset 12 of the network header (base 1).
        data.attr_be32(1, REGISTER)
            .attr_be32(2, 1)
            .attr_be32(3, 12)
            .attr_be32(4, 4)
    });
    let list = expression(list, "bitwise", |data| {
        data.attr_be32(1, REGISTER)
            .attr_be32(2, REGISTER)
            .attr_be32(3, 4)
            .nest(4, |value| value.attr(1, &mask))
            .nest(5, |value| value.attr(1, &[0; 4]))
    });
    let list = expression(list, "cmp", |data| {
        data.attr_be32(1, REGISTER)
            .attr_be32(2, 0)
            .nest(3, |value| value.attr(1, &network.octets()))
    });
    // NFT_META_OIFNAME is 7; the name fills 16 bytes.
    let list = expression(list, "meta", |data| data.attr_be32(1, REGISTER).attr_be32(2, 7));
    let list = expression(list, "cmp", |data| {
        data.attr_be32(1, REGISTER)
            .attr_be32(2, 1)
            .nest(3, |value| value.attr(1, &name))
    });
    expression(list, "masq", |data| data)
}

fn expression(list: Message, name: &str, data: impl FnOnce(Message) -> Message) -> Message {
    list.nest(1, |element| element.attr_str(1, name).nest(2, data))
}
