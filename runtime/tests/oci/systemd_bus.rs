//! A bus with a substitute for systemd.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use zvariant::serialized::{Context, Data};
use zvariant::{DynamicType, LE, ObjectPath, OwnedValue, Signature, Value, to_bytes};

type Header<'a> = (u8, u8, u8, u8, u32, u32, Vec<(u8, Value<'a>)>);
type Properties = Vec<(String, OwnedValue)>;

/// The bus name of the substitute.
const SYSTEMD: &str = ":1.1";
const JOB: &str = "/org/freedesktop/systemd1/job/5";

/// A call that came in: the unit it was for, and the properties that came with it, as text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Call {
    pub member: String,
    pub unit: String,
    pub properties: Vec<(String, String)>,
}

impl Call {
    /// The value of a property, as text.
    pub(crate) fn property(&self, name: &str) -> Option<&str> {
        self.properties.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// What it does.
#[derive(Clone, Default)]
pub(crate) struct Behaviour {
    /// The result of jobs; `done` by default.
    pub result: Option<&'static str>,
    /// Whether there is a unit of every name until it is reset.
    pub failed_before: bool,
    /// A property that is not known.
    pub unknown: Option<&'static str>,
}

/// The bus.
pub(crate) struct SystemdBus {
    calls: Arc<Mutex<Vec<Call>>>,
    /// Where it listens.
    pub address: String,
}

impl SystemdBus {
    /// Listens at a socket of that path, as long as the test runs.
    pub(crate) fn listen(path: &Path, behaviour: Behaviour) -> SystemdBus {
        let listener = UnixListener::bind(path).unwrap();
        let calls = Arc::new(Mutex::new(Vec::new()));
        let address = format!("unix:path={}", path.display());
        let bus = SystemdBus { calls: calls.clone(), address };
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut talk = Talk { stream: stream.unwrap(), behaviour: behaviour.clone(), calls: calls.clone() };
                // One after the other, as the commands are.
                talk.greet();
                while talk.answer().is_some() {}
            }
        });
        bus
    }

    /// The calls since the last one of this function.
    pub(crate) fn calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }
}

struct Talk {
    stream: UnixStream,
    behaviour: Behaviour,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Talk {
    fn greet(&mut self) {
        let mut lines = BufReader::with_capacity(1, self.stream.try_clone().unwrap());
        let mut next = || {
            let mut line = String::new();
            lines.read_line(&mut line).unwrap();
            line
        };
        assert_eq!(next(), "\0AUTH EXTERNAL\r\n");
        assert_eq!(next(), "DATA\r\n");
        assert_eq!(next(), "BEGIN\r\n");
        (&self.stream).write_all(b"DATA\r\nOK 0123\r\n").unwrap();
    }

    fn answer(&mut self) -> Option<()> {
        let mut text = vec![0; 16];
        self.stream.read_exact(&mut text).ok()?;
        let number = |at: usize| u32::from_le_bytes(text[at..at + 4].try_into().unwrap()) as usize;
        let (body, serial, fields) = (number(4), number(8) as u32, number(12));
        let start = 16 + fields.next_multiple_of(8);
        text.resize(start + body, 0);
        self.stream.read_exact(&mut text[16..]).ok()?;
        let data = Data::new(text.as_slice(), Context::new_dbus(LE, 0));
        let (header, _): (Header<'_>, usize) = data.deserialize().unwrap();
        let field = |wanted: u8| {
            header.6.iter().find(|(field, _)| *field == wanted).map(|(_, value)| value.try_clone().unwrap())
        };
        let Some(Value::Str(member)) = field(3) else { panic!("{header:?}") };
        let data = Data::new(&text[start..], Context::new_dbus(LE, 0));
        let member = member.to_string();
        let signature: &[u8] = match member.as_str() {
            "Hello" => b"",
            "AddMatch" | "ResetFailedUnit" => b"\x01s\0",
            "StartTransientUnit" => b"\x10ssa(sv)a(sa(sv))\0",
            "SetUnitProperties" => b"\x07sba(sv)\0",
            _ => b"\x02ss\0",
        };
        assert!(signature.is_empty() || text[..start].windows(signature.len()).any(|part| part == signature));
        if member == "Hello" {
            self.reply(serial, &(":1.7",));
            return Some(());
        }
        if member == "AddMatch" {
            self.reply(serial, &());
            return Some(());
        }
        if member == "Get" {
            let (_, name): (String, String) = data.deserialize().unwrap().0;
            let value = if name == "Version" { "252.39-1~deb12u1" } else { "" };
            self.reply(serial, &(Value::from(value),));
            return Some(());
        }
        let (unit, properties) = match member.as_str() {
            "StartTransientUnit" => {
                type Arguments = (String, String, Properties, Vec<(String, Properties)>);
                let (unit, mode, properties, auxiliary): Arguments = data.deserialize().unwrap().0;
                assert_eq!((mode.as_str(), auxiliary.len()), ("replace", 0));
                (unit, properties)
            }
            "SetUnitProperties" => {
                let (unit, runtime, properties): (String, bool, Properties) = data.deserialize().unwrap().0;
                assert!(runtime);
                (unit, properties)
            }
            "StopUnit" => {
                let (unit, mode): (String, String) = data.deserialize().unwrap().0;
                assert_eq!(mode, "replace");
                (unit, Vec::new())
            }
            "ResetFailedUnit" => (data.deserialize::<(String,)>().unwrap().0.0, Vec::new()),
            other => panic!("{other}"),
        };
        let properties = properties.into_iter().map(|(name, value)| (name, value.to_string())).collect();
        let call = Call { member, unit, properties };
        self.calls.lock().unwrap().push(call.clone());
        match call.member.as_str() {
            "SetUnitProperties" => self.reply(serial, &()),
            "ResetFailedUnit" => {
                self.behaviour.failed_before = false;
                self.reply(serial, &());
            }
            _ if self.behaviour.failed_before => self.error(serial, "UnitExists", "Unit was already loaded."),
            _ if self.behaviour.unknown.is_some_and(|name| call.property(name).is_some()) => {
                self.error(serial, "BadSetting", "Cannot set property, or unknown property.");
            }
            _ => self.job(serial, &call.unit),
        }
        Some(())
    }

    /// A job that has ended even before the answer; what others say of it does not count.
    fn job(&mut self, serial: u32, unit: &str) {
        let path = ObjectPath::try_from(JOB).unwrap();
        let other = ObjectPath::try_from("/org/freedesktop/systemd1/job/4").unwrap();
        self.signal(":1.66", &(5_u32, &path, unit, "failed"));
        self.signal(SYSTEMD, &(4_u32, &other, unit, "failed"));
        let result = self.behaviour.result.unwrap_or("done");
        if unit.ends_with("early.scope") {
            self.signal(SYSTEMD, &(5_u32, &path, unit, result));
            self.reply(serial, &(&path,));
        } else {
            self.reply(serial, &(&path,));
            self.signal(SYSTEMD, &(5_u32, &path, unit, result));
        }
    }

    fn reply<T: serde::Serialize + DynamicType>(&mut self, serial: u32, arguments: &T) {
        self.send(2, vec![(5, serial.into()), (7, SYSTEMD.into())], arguments);
    }

    fn error(&mut self, serial: u32, name: &str, text: &str) {
        let name = format!("org.freedesktop.systemd1.{name}");
        self.send(3, vec![(5, serial.into()), (4, name.into()), (7, SYSTEMD.into())], &(text,));
    }

    fn signal<T: serde::Serialize + DynamicType>(&mut self, sender: &'static str, arguments: &T) {
        let path = ObjectPath::try_from("/org/freedesktop/systemd1").unwrap();
        let interface = "org.freedesktop.systemd1.Manager";
        let fields = vec![(1, path.into()), (2, interface.into()), (3, "JobRemoved".into()), (7, sender.into())];
        self.send(4, fields, arguments);
    }

    fn send<T: serde::Serialize + DynamicType>(&mut self, kind: u8, mut fields: Vec<(u8, Value<'_>)>, arguments: &T) {
        let context = Context::new_dbus(LE, 0);
        let signature = arguments.signature();
        let mut body = Vec::new();
        if signature != Signature::Unit {
            body.extend_from_slice(to_bytes(context, arguments).unwrap().bytes());
            let plain = signature.to_string_no_parens();
            fields.push((8, Value::Signature(Signature::try_from(plain.as_str()).unwrap())));
        }
        let header: Header<'_> = (b'l', kind, 0, 1, body.len() as u32, 1, fields);
        let mut text = to_bytes(context, &header).unwrap().bytes().to_vec();
        text.resize(text.len().next_multiple_of(8), 0);
        text.extend(body);
        self.stream.write_all(&text).unwrap();
    }
}
