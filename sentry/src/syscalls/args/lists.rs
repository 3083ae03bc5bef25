//! Arguments with several elements: vectors of strings and buffers, descriptors, socket addresses.

use amber_abi::poll::PollEvents;

use super::buffers::{SHOWN, show_memory, show_string};
use super::{View, addresses, nullable, put};

/// Maximum number of elements printed.
const ELEMENTS: usize = 16;

addresses! {
    /// The arguments of a program, terminated by NULL.
    StringList, out false, |view, out| show_list(view, false, out, show_strings);
    /// The environment of a program. Only the number of strings is printed.
    Envp, out false, |view, out| show_list(view, false, out, show_environment);
    /// A vector of buffers that the kernel reads; the next argument is their number.
    IovecIn, out false, |view, out| show_list(view, false, out, show_vector);
    /// A vector of buffers that the kernel writes; the next argument is their number.
    IovecOut, out true, |view, out| show_list(view, true, out, show_vector);
    /// The array of poll(2); the next argument is its length.
    Pollfds, out true, |view, out| show_list(view, true, out, show_pollfds);
    /// A descriptor set of select(2).
    FdSet, out true, |view, out| show_list(view, true, out, show_fd_set);
    /// A buffer for two descriptors.
    FdPair, out true, |view, out| show_list(view, true, out, show_pair);
    /// A socket address that the kernel reads; the next argument is its length.
    SockaddrIn, out false, |view, out| show_list(view, false, out, show_sockaddr);
    /// A buffer for a socket address; the next argument points to its length.
    SockaddrOut, out true, |view, out| show_list(view, true, out, show_sockaddr_out);
}

nullable! { SockaddrIn, SockaddrOut }

/// Prints a list, or the address if it cannot be read or, with `written`, was not written.
fn show_list(view: &View<'_>, written: bool, out: &mut String, show: fn(&View<'_>, &mut String)) {
    if view.value() == 0 {
        out.push_str("NULL");
    } else if written && !view.succeeded() {
        view.show_address(out);
    } else {
        show(view, out);
    }
}

fn pointers(view: &View<'_>) -> Vec<u64> {
    let mut found = Vec::new();
    while let Ok(pointer) = view.ctx.read_object::<u64>(view.value().wrapping_add(8 * found.len() as u64)) {
        if pointer == 0 || found.len() >= 1024 {
            break;
        }
        found.push(pointer);
    }
    found
}

/// Prints the elements in brackets by `each`, with an ellipsis for omitted ones.
fn bracket<T>(elements: &[T], out: &mut String, mut each: impl FnMut(&T, &mut String)) {
    out.push('[');
    for (i, element) in elements.iter().take(ELEMENTS).enumerate() {
        out.push_str(if i > 0 { ", " } else { "" });
        each(element, out);
    }
    out.push_str(if elements.len() > ELEMENTS { ", ...]" } else { "]" });
}

fn show_strings(view: &View<'_>, out: &mut String) {
    bracket(&pointers(view), out, |&pointer, out| show_string(view, pointer, SHOWN, out));
}

fn show_environment(view: &View<'_>, out: &mut String) {
    put!(out, "{:#x} /* {} vars */", view.value(), pointers(view).len());
}

fn show_vector(view: &View<'_>, out: &mut String) {
    let count = (view.next() as usize).min(ELEMENTS + 1);
    let Ok(words) = view.ctx.read_array::<u64>(view.value(), count * 2) else {
        return view.show_address(out);
    };
    // Only as many bytes as the result counts are valid in buffers that the kernel wrote.
    let mut left = match view.result {
        Some(Ok(n)) => *n,
        _ => u64::MAX,
    };
    bracket(words.as_chunks().0, out, |&[base, len], out| {
        out.push_str("{iov_base=");
        show_memory(view, base, len.min(left), out);
        put!(out, ", iov_len={len}}}");
        left = left.saturating_sub(len);
    });
}

fn show_pollfds(view: &View<'_>, out: &mut String) {
    let count = (view.next() as usize).min(ELEMENTS + 1);
    let Ok(words) = view.ctx.read_array::<u64>(view.value(), count) else {
        return view.show_address(out);
    };
    bracket(&words, out, |&word, out| {
        let events = |shift: u32| PollEvents::from_bits_retain((word >> shift) as u32 & 0xffff);
        put!(out, "{{fd={}, events={}, revents={}}}", word as i32, events(32), events(48));
    });
}

fn show_fd_set(view: &View<'_>, out: &mut String) {
    let words = (view.raw[0].min(1024) as usize).div_ceil(64);
    let Ok(words) = view.ctx.read_array::<u64>(view.value(), words) else {
        return view.show_address(out);
    };
    let bits = |(at, word): (usize, u64)| (0..64).filter(move |bit| word >> bit & 1 != 0).map(move |bit| at * 64 + bit);
    let set: Vec<usize> = words.into_iter().enumerate().flat_map(bits).collect();
    bracket(&set, out, |fd, out| put!(out, "{fd}"));
}

fn show_pair(view: &View<'_>, out: &mut String) {
    match view.ctx.read_object::<[i32; 2]>(view.value()) {
        Ok([first, second]) => put!(out, "[{first}, {second}]"),
        Err(_) => view.show_address(out),
    }
}

fn show_sockaddr(view: &View<'_>, out: &mut String) {
    show_address(view, view.next().min(128) as usize, out);
}

fn show_sockaddr_out(view: &View<'_>, out: &mut String) {
    let len = view.ctx.read_object::<u32>(view.next()).unwrap_or_default();
    show_address(view, len.min(128) as usize, out);
}

fn show_address(view: &View<'_>, len: usize, out: &mut String) {
    let mut bytes = vec![0; len];
    let read = view.ctx.read_bytes(view.value(), &mut bytes);
    let (Ok(()), Some((family, rest))) = (read, bytes.split_first_chunk()) else { return view.show_address(out) };
    let v6 = rest.get(6..).and_then(|rest| rest.first_chunk::<16>());
    match (u16::from_ne_bytes(*family), rest, v6) {
        (1, ..) => {
            let (mark, name) = match rest {
                [0, rest @ ..] => ("@", rest),
                path => ("", path.split(|&b| b == 0).next().unwrap_or_default()),
            };
            put!(out, "{{sa_family=AF_UNIX, sun_path={mark}{:?}}}", String::from_utf8_lossy(name));
        }
        (2, &[high, low, a, b, c, d, ..], _) => put!(
            out,
            "{{sa_family=AF_INET, sin_port=htons({}), sin_addr=inet_addr(\"{a}.{b}.{c}.{d}\")}}",
            u16::from_be_bytes([high, low])
        ),
        (10, &[high, low, ..], Some(address)) => put!(
            out,
            "{{sa_family=AF_INET6, sin6_port=htons({}), sin6_addr={}}}",
            u16::from_be_bytes([high, low]),
            std::net::Ipv6Addr::from(*address)
        ),
        (family, ..) => put!(out, "{{sa_family={family}, ...}}"),
    }
}
