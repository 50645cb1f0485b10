//! DNS and ports of a pod (contract §5.2, §5.3).

use copepod_proto::cri as wire;

use super::{invalid, quoted};
use crate::domain::error::Failure;
use crate::domain::network::{DnsConfig, PortMapping, Protocol};

/// resolv.conf; a missing message is not the same as an empty one.
///
/// # Errors
/// An entry could not stand on its line of the file.
pub(super) fn dns(field: &str, message: Option<wire::DnsConfig>) -> Result<Option<DnsConfig>, Failure> {
    let Some(wire::DnsConfig {
        servers,
        searches,
        options,
    }) = message
    else {
        return Ok(None);
    };
    Ok(Some(DnsConfig {
        servers: entries(&format!("{field}.servers"), servers)?,
        searches: entries(&format!("{field}.searches"), searches)?,
        options: entries(&format!("{field}.options"), options)?,
    }))
}

fn entries(field: &str, entries: Vec<String>) -> Result<Vec<String>, Failure> {
    const MOST: usize = 256;
    if entries.len() > MOST {
        return Err(invalid(
            field,
            format!("has {} entries", entries.len()),
            "256 are allowed",
        ));
    }
    let unsound = |entry: &&String| {
        let blank = |c: char| c.is_whitespace() || c.is_control() || c == '#' || c == ';';
        entry.is_empty() || entry.len() > 255 || entry.contains(blank)
    };
    match entries.iter().find(unsound) {
        Some(entry) => Err(invalid(
            field,
            format!("has {}", quoted(entry)),
            "an entry is one word of at most 255 bytes",
        )),
        None => Ok(entries),
    }
}

/// Ports; one without a host port is information only.
///
/// # Errors
/// A port, protocol or address is none.
pub(super) fn ports(field: &str, messages: Vec<wire::PortMapping>) -> Result<Vec<PortMapping>, Failure> {
    const MOST: usize = 65_536;
    if messages.len() > MOST {
        return Err(invalid(
            field,
            format!("has {} entries", messages.len()),
            "there are 65535 ports",
        ));
    }
    messages.into_iter().map(|message| port(field, message)).collect()
}

fn port(field: &str, message: wire::PortMapping) -> Result<PortMapping, Failure> {
    let wire::PortMapping {
        protocol,
        container_port,
        host_port,
        host_ip,
    } = message;
    let protocol = match wire::Protocol::try_from(protocol) {
        Ok(wire::Protocol::Tcp) => Protocol::Tcp,
        Ok(wire::Protocol::Udp) => Protocol::Udp,
        Ok(wire::Protocol::Sctp) => Protocol::Sctp,
        Err(_) => {
            return Err(invalid(
                field,
                format!("has protocol {protocol}"),
                "TCP, UDP and SCTP are 0 to 2",
            ));
        }
    };
    let number = |name: &str, number: i32| {
        let port = u16::try_from(number).ok().filter(|port| *port != 0);
        port.ok_or_else(|| invalid(field, format!("has {name} {number}"), "ports go from 1 to 65535"))
    };
    if !host_ip.is_empty() && host_ip.parse::<std::net::IpAddr>().is_err() {
        return Err(invalid(
            field,
            format!("has host_ip {}", quoted(&host_ip)),
            "give an IP address or leave it out",
        ));
    }
    Ok(PortMapping {
        protocol,
        container_port: number("container_port", container_port)?,
        host_port: if host_port <= 0 {
            None
        } else {
            Some(number("host_port", host_port)?)
        },
        host_ip,
    })
}
