//! A D-Bus connection, with the part of the protocol for method calls and signals. The wire format is `zvariant`'s. The
//! connection is own code: the maintained library of both (`zbus`) adds an asynchronous runtime with fifty crates and 2
//! MB, and the smaller ones do not support a user in another user namespace.

use std::collections::VecDeque;
use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zvariant::serialized::{self, Data};
use zvariant::{DynamicType, LE, Signature, Type, Value, to_bytes};

/// The maximum size of a message, more than any reply has.
const LONGEST: usize = 1 << 20;

/// The size of a message's header before its fields.
const FIXED: usize = 16;

const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;
const SIGNAL: u8 = 4;

const FIELD_PATH: u8 = 1;
const FIELD_INTERFACE: u8 = 2;
const FIELD_MEMBER: u8 = 3;
const FIELD_ERROR_NAME: u8 = 4;
const FIELD_REPLY_SERIAL: u8 = 5;
const FIELD_DESTINATION: u8 = 6;
const FIELD_SENDER: u8 = 7;
const FIELD_SIGNATURE: u8 = 8;

/// Byte order, type, flags, version, length of the body, serial; the fields.
type Header<'a> = (u8, u8, u8, u8, u32, u32, Vec<(u8, Value<'a>)>);

/// An error reply to a method call.
#[derive(Debug)]
pub(super) struct MethodError {
    /// The name, such as `org.freedesktop.systemd1.UnitExists`.
    pub name: String,
    /// The message for humans.
    pub text: String,
}

impl fmt::Display for MethodError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.text.is_empty() { f.write_str(&self.name) } else { f.write_str(&self.text) }
    }
}

impl std::error::Error for MethodError {}

/// A method of an object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Method<'a> {
    object: Object<'a>,
    member: &'a str,
}

/// A received message.
#[derive(Debug)]
pub(super) struct Message {
    kind: u8,
    reply_to: Option<u32>,
    error: String,
    /// The sender; empty without a message bus.
    pub sender: String,
    interface: String,
    member: String,
    signature: String,
    little: bool,
    body: Vec<u8>,
}

impl Message {
    /// The arguments.
    ///
    /// # Errors
    /// They have other types.
    pub(super) fn arguments<T: DeserializeOwned + Type>(&self) -> Result<T> {
        let wanted = T::SIGNATURE.to_string_no_parens();
        ensure!(self.signature == wanted, "D-Bus: {} came where {wanted} was awaited", self.signature);
        let endian = if self.little { zvariant::LE } else { zvariant::BE };
        let data = Data::new(self.body.as_slice(), serialized::Context::new_dbus(endian, 0));
        Ok(data.deserialize().context("D-Bus: a message is malformed")?.0)
    }

    /// Whether it is a signal with this name.
    pub(super) fn is_signal(&self, interface: &str, member: &str) -> bool {
        self.kind == SIGNAL && self.interface == interface && self.member == member
    }
}

/// A connection.
#[derive(Debug)]
pub(super) struct Bus {
    stream: UnixStream,
    serial: u32,
    signals: VecDeque<Message>,
    timeout: Duration,
}

impl Bus {
    /// Connects to the first reachable address in a list such as `unix:path=/run/user/1000/bus`.
    ///
    /// # Errors
    /// No address is reachable, or the server refuses this user.
    pub(super) fn connect(address: &str, timeout: Duration) -> Result<Bus> {
        let mut failure = None;
        for place in address.split(';').filter(|place| !place.is_empty()) {
            match socket_address(place).and_then(|place| Ok(UnixStream::connect_addr(&place)?)) {
                Ok(stream) => return Bus::new(stream, timeout).with_context(|| format!("D-Bus at {place}")),
                Err(error) => failure = Some(error.context(format!("connecting to D-Bus at {place}"))),
            }
        }
        Err(failure.unwrap_or_else(|| anyhow::anyhow!("the address of D-Bus is empty")))
    }

    fn new(mut stream: UnixStream, timeout: Duration) -> Result<Bus> {
        stream.set_read_timeout(Some(timeout)).context("a socket's timeout")?;
        stream.set_write_timeout(Some(timeout)).context("a socket's timeout")?;
        // No user ID is sent: the socket's credentials identify this user outside of its user namespace. All lines are
        // sent at once, since systemd itself ignores a message that arrives together with the `BEGIN` before it.
        stream.write_all(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n").context("authenticating")?;
        for wanted in ["DATA", "OK"] {
            let line = read_line(&mut stream).context("authenticating")?;
            ensure!(line.split(' ').next() == Some(wanted), "authenticating: got {line:?}");
        }
        Ok(Bus { stream, serial: 0, signals: VecDeque::new(), timeout })
    }

    /// Registers with the message bus, which is required before other calls.
    ///
    /// # Errors
    /// The connection was closed.
    pub(super) fn hello(&mut self) -> Result<()> {
        self.call(BUS.method("Hello"), &()).map(drop)
    }

    /// Subscribes to signals.
    ///
    /// # Errors
    /// The connection was closed, or the rule is malformed.
    pub(super) fn watch(&mut self, rule: &str) -> Result<()> {
        self.call(BUS.method("AddMatch"), &(rule,)).map(drop)
    }

    /// Calls a method and waits for the reply. An error reply is a [`MethodError`].
    ///
    /// # Errors
    /// The peer sends an error reply, or does not reply.
    pub(super) fn call<T: Serialize + DynamicType>(&mut self, method: Method<'_>, arguments: &T) -> Result<Message> {
        self.serial += 1;
        let serial = self.serial;
        let text = call_bytes(method, serial, arguments).context("D-Bus: encoding a message")?;
        self.stream.write_all(&text).with_context(|| format!("D-Bus: calling {}", method.member))?;
        let end = Instant::now() + self.timeout;
        loop {
            let message = self.receive(end).with_context(|| format!("D-Bus: waiting for {}", method.member))?;
            match message.kind {
                METHOD_RETURN if message.reply_to == Some(serial) => return Ok(message),
                ERROR if message.reply_to == Some(serial) => {
                    let text = message.arguments::<(String,)>().map_or_else(|_| String::new(), |(text,)| text);
                    return Err(MethodError { name: message.error, text }.into());
                }
                SIGNAL => self.signals.push_back(message),
                _ => {}
            }
        }
    }

    /// The next signal that was received since the last call, or is received before `end`.
    ///
    /// # Errors
    /// No signal is received.
    pub(super) fn signal(&mut self, end: Instant) -> Result<Message> {
        if let Some(message) = self.signals.pop_front() {
            return Ok(message);
        }
        loop {
            let message = self.receive(end)?;
            if message.kind == SIGNAL {
                return Ok(message);
            }
        }
    }

    fn receive(&mut self, end: Instant) -> Result<Message> {
        let mut text = vec![0; FIXED];
        self.fill(&mut text, end)?;
        let (_, fields, body) = lengths(&text)?;
        text.resize(FIXED + fields.next_multiple_of(8) + body, 0);
        self.fill(text.get_mut(FIXED..).unwrap_or_default(), end)?;
        decode(&text)
    }

    fn fill(&mut self, mut buffer: &mut [u8], end: Instant) -> Result<()> {
        while !buffer.is_empty() {
            let left = end.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "no answer in time");
            self.stream.set_read_timeout(Some(left)).context("a socket's timeout")?;
            match self.stream.read(buffer) {
                Ok(0) => bail!("the connection ended"),
                Ok(count) => buffer = buffer.get_mut(count..).unwrap_or_default(),
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// An object with methods.
#[derive(Clone, Copy, Debug)]
pub(super) struct Object<'a> {
    /// The name on the bus.
    pub destination: &'a str,
    /// The object.
    pub path: &'a str,
    /// The interface.
    pub interface: &'a str,
}

impl<'a> Object<'a> {
    /// A method of the object.
    pub(super) fn method(self, member: &'a str) -> Method<'a> {
        Method { object: self, member }
    }
}

/// The message bus.
const BUS: Object<'static> =
    Object { destination: "org.freedesktop.DBus", path: "/org/freedesktop/DBus", interface: "org.freedesktop.DBus" };

/// The address of `unix:path=…` or `unix:abstract=…`.
fn socket_address(place: &str) -> Result<SocketAddr> {
    let pairs = place.strip_prefix("unix:").context("only sockets of kind `unix` are known")?;
    for (key, value) in pairs.split(',').filter_map(|pair| pair.split_once('=')) {
        let value = unescape(value).context("the address is malformed")?;
        match key {
            "path" => return Ok(SocketAddr::from_pathname(std::ffi::OsString::from_vec(value))?),
            "abstract" => return Ok(SocketAddr::from_abstract_name(value)?),
            _ => {}
        }
    }
    bail!("neither `path` nor `abstract` is given")
}

/// Decodes bytes written as `%` and two digits.
fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut plain = Vec::new();
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            byte => byte,
        });
    }
    Some(plain)
}

/// Reads a line of the authentication. Reads byte by byte, since messages follow it.
fn read_line(stream: &mut UnixStream) -> Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    while !line.ends_with(b"\r\n") {
        ensure!(line.len() < 1024, "the line is too long");
        stream.read_exact(&mut byte)?;
        line.extend(byte);
    }
    line.truncate(line.len().saturating_sub(2));
    Ok(String::from_utf8_lossy(&line).into_owned())
}

fn call_bytes<T: Serialize + DynamicType>(method: Method<'_>, serial: u32, arguments: &T) -> Result<Vec<u8>> {
    let context = serialized::Context::new_dbus(LE, 0);
    let signature = arguments.signature();
    // `zvariant` cannot encode an empty message.
    let body = if signature == Signature::Unit { Vec::new() } else { to_bytes(context, arguments)?.bytes().to_vec() };
    let mut fields = Vec::new();
    field(&mut fields, FIELD_PATH, b'o', method.object.path);
    field(&mut fields, FIELD_INTERFACE, b's', method.object.interface);
    field(&mut fields, FIELD_MEMBER, b's', method.member);
    field(&mut fields, FIELD_DESTINATION, b's', method.object.destination);
    if !body.is_empty() {
        // The arguments of a message are not a structure.
        field(&mut fields, FIELD_SIGNATURE, b'g', &signature.to_string_no_parens());
    }
    let mut text = vec![b'l', METHOD_CALL, 0, 1];
    for number in [u32::try_from(body.len())?, serial, u32::try_from(fields.len())?] {
        text.extend(number.to_le_bytes());
    }
    text.extend(fields);
    text.resize(text.len().next_multiple_of(8), 0);
    text.extend(body);
    Ok(text)
}

/// Appends a header field. Not encoded by `zvariant`, which has no signatures of several types.
fn field(all: &mut Vec<u8>, number: u8, kind: u8, value: &str) {
    all.resize(all.len().next_multiple_of(8), 0);
    all.extend([number, 1, kind, 0]);
    // The values are short.
    match kind {
        b'g' => all.push(value.len() as u8),
        _ => all.extend((value.len() as u32).to_le_bytes()),
    }
    all.extend(value.as_bytes());
    all.push(0);
}

/// Whether the message is little endian, and the lengths of its fields and body.
fn lengths(text: &[u8]) -> Result<(bool, usize, usize)> {
    let little = match text.first() {
        Some(b'l') => true,
        Some(b'B') => false,
        _ => bail!("a message is malformed"),
    };
    let number = |from: usize| {
        let bytes = text.get(from..from + 4).and_then(|bytes| bytes.try_into().ok()).unwrap_or_default();
        (if little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) }) as usize
    };
    let (body, fields) = (number(4), number(12));
    ensure!(body <= LONGEST && fields <= LONGEST, "a message is too long");
    Ok((little, fields, body))
}

fn decode(text: &[u8]) -> Result<Message> {
    let (little, fields, body) = lengths(text)?;
    let endian = if little { zvariant::LE } else { zvariant::BE };
    let data = Data::new(text, serialized::Context::new_dbus(endian, 0));
    let (header, _): (Header<'_>, usize) = data.deserialize().context("a message is malformed")?;
    let start = FIXED + fields.next_multiple_of(8);
    let body = text.get(start..start + body).context("a message is malformed")?.to_vec();
    let mut message = Message {
        kind: header.1,
        reply_to: None,
        error: String::new(),
        sender: String::new(),
        interface: String::new(),
        member: String::new(),
        signature: String::new(),
        little,
        body,
    };
    for (field, value) in header.6 {
        match (field, value) {
            (FIELD_REPLY_SERIAL, Value::U32(serial)) => message.reply_to = Some(serial),
            (FIELD_ERROR_NAME, Value::Str(name)) => message.error = name.to_string(),
            (FIELD_SENDER, Value::Str(name)) => message.sender = name.to_string(),
            (FIELD_INTERFACE, Value::Str(name)) => message.interface = name.to_string(),
            (FIELD_MEMBER, Value::Str(name)) => message.member = name.to_string(),
            (FIELD_SIGNATURE, Value::Signature(it)) => message.signature = it.to_string_no_parens(),
            _ => {}
        }
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_paths_or_abstract_names() {
        let path = socket_address("unix:path=/run/a%20b,guid=1").unwrap();
        assert_eq!(path.as_pathname().unwrap().to_str(), Some("/run/a b"));
        let name = socket_address("unix:guid=1,abstract=/tmp/x").unwrap();
        assert_eq!(name.as_abstract_name(), Some(&b"/tmp/x"[..]));
        for bad in ["tcp:host=x", "unix:tmpdir=/x", "unix:path=%4", ""] {
            assert!(socket_address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn messages_are_written_as_they_are_read() {
        let method = Object { destination: "a.b", path: "/c", interface: "d.e" }.method("F");
        let text = call_bytes(method, 7, &("x", 5u32, vec![("k", Value::from(true))])).unwrap();
        let (_, fields, body) = lengths(&text).unwrap();
        assert_eq!(text.len(), FIXED + fields.next_multiple_of(8) + body);
        let message = decode(&text).unwrap();
        assert_eq!((message.interface.as_str(), message.member.as_str()), ("d.e", "F"));
        assert_eq!(message.signature, "sua(sv)");
        // The signature has no outer parentheses.
        assert!(text.windows(9).any(|part| part == b"\x07sua(sv)\0"));
        let (word, number, _) = message.arguments::<(String, u32, Vec<(String, zvariant::OwnedValue)>)>().unwrap();
        assert_eq!((word.as_str(), number), ("x", 5));
        assert!(message.arguments::<(u32,)>().is_err());
        let empty = decode(&call_bytes(method, 8, &()).unwrap()).unwrap();
        assert_eq!((empty.signature.as_str(), empty.body.len()), ("", 0));
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        let method = Object { destination: "a.b", path: "/c", interface: "d.e" }.method("F");
        let text = call_bytes(method, 7, &("x", 5u32)).unwrap();
        for end in 0..text.len() {
            assert!(decode(text.get(..end).unwrap()).is_err() || end >= text.len() - 8, "{end}");
        }
        for at in 0..text.len() {
            let mut broken = text.clone();
            broken[at] ^= 0xff;
            // The result may be another message, but nothing worse.
            let _ = decode(&broken).and_then(|message| message.arguments::<(String, u32)>());
        }
    }

    #[test]
    fn only_a_known_sender_is_let_in() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let server = std::thread::spawn(move || {
            let mut stream = theirs;
            let mut first = [0; 1];
            stream.read_exact(&mut first).unwrap();
            assert_eq!(read_line(&mut stream).unwrap(), "AUTH EXTERNAL");
            stream.write_all(b"REJECTED EXTERNAL\r\n").unwrap();
        });
        let error = Bus::new(ours, Duration::from_secs(5)).unwrap_err();
        assert!(format!("{error:#}").contains("REJECTED"), "{error:#}");
        server.join().unwrap();
    }
}
