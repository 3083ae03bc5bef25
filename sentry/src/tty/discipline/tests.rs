//! Tests of the line discipline alone: input, output and signals.

use super::*;
fn typed(tty: &mut LineDiscipline, keys: &[u8]) -> (Received, Vec<u8>) {
    let received = tty.receive(keys);
    (received, tty.take_echo())
}

fn read(tty: &mut LineDiscipline) -> Option<Vec<u8>> {
    let mut buf = [0; 64];
    tty.read(&mut buf).map(|n| buf[..n].to_vec())
}

#[test]
fn lines_come_whole_and_are_echoed() {
    let mut tty = LineDiscipline::default();
    assert_eq!(typed(&mut tty, b"ab").1, b"ab");
    assert_eq!(read(&mut tty), None);
    assert_eq!(typed(&mut tty, b"c\rrest").1, b"c\r\nrest");
    assert_eq!(read(&mut tty).unwrap(), b"abc\n");
    assert_eq!(read(&mut tty), None);
}

#[test]
fn keys_edit_the_line() {
    let mut tty = LineDiscipline::default();
    assert_eq!(typed(&mut tty, b"ax\x7fb").1, b"ax\x08 \x08b");
    typed(&mut tty, b" word\x17c\n");
    assert_eq!(read(&mut tty).unwrap(), b"ab c\n");
    typed(&mut tty, b"gone\x15new\n");
    assert_eq!(read(&mut tty).unwrap(), b"new\n");
    typed(&mut tty, b"\x16\x03\n");
    assert_eq!(read(&mut tty).unwrap(), b"\x03\n");
}

#[test]
fn end_of_file_reads_as_nothing() {
    let mut tty = LineDiscipline::default();
    typed(&mut tty, b"\x04");
    assert_eq!(read(&mut tty).unwrap(), b"");
    typed(&mut tty, b"tail\x04");
    assert_eq!(read(&mut tty).unwrap(), b"tail");
    assert_eq!(read(&mut tty), None);
}

#[test]
fn keys_send_signals_and_flush() {
    let mut tty = LineDiscipline::default();
    let (received, echo) = typed(&mut tty, b"half\x03");
    assert_eq!(received.signals, [Signal::SIGINT]);
    assert!(received.flush_output && echo == b"^C");
    typed(&mut tty, b"\n");
    assert_eq!(read(&mut tty).unwrap(), b"\n");
    assert_eq!(typed(&mut tty, b"\x1a\x1c").0.signals, [Signal::SIGTSTP, Signal::SIGQUIT]);
}

#[test]
fn raw_mode_passes_everything() {
    let mut tty = LineDiscipline::default();
    let mut modes = *tty.termios();
    modes.c_lflag = 0;
    modes.c_iflag = 0;
    modes.c_oflag = 0;
    tty.set_termios(modes);
    let (received, echo) = typed(&mut tty, b"\x03\r\x04");
    assert!(received.signals.is_empty() && echo.is_empty());
    assert_eq!(read(&mut tty).unwrap(), b"\x03\r\x04");
    assert_eq!(tty.process(b"\n"), b"\n");
}

#[test]
fn output_gets_carriage_returns_and_stops() {
    let mut tty = LineDiscipline::default();
    assert_eq!(tty.process(b"a\nb"), b"a\r\nb");
    typed(&mut tty, b"\x13");
    assert!(tty.is_stopped());
    typed(&mut tty, b"\x11");
    assert!(!tty.is_stopped());
}
