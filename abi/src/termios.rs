//! Terminals: their modes, control characters and window size.

layout! {
    /// The modes of a terminal as `TCGETS` gives them: the kernel's `struct termios`.
    pub struct Termios: 36 {
        /// [`InputModes`].
        c_iflag: u32,
        /// [`OutputModes`].
        c_oflag: u32,
        /// [`ControlModes`].
        c_cflag: u32,
        /// [`LocalModes`].
        c_lflag: u32,
        /// The line discipline.
        c_line: u8,
        /// The control characters, at the `V` places.
        c_cc: [u8; 19],
    }

    /// The modes with speeds, as `TCGETS2` gives them.
    pub struct Termios2: 44 {
        /// [`InputModes`].
        c_iflag: u32,
        /// [`OutputModes`].
        c_oflag: u32,
        /// [`ControlModes`].
        c_cflag: u32,
        /// [`LocalModes`].
        c_lflag: u32,
        /// The line discipline.
        c_line: u8,
        /// The control characters, at the `V` places.
        c_cc: [u8; 19],
        /// In bits per second.
        c_ispeed: u32,
        /// In bits per second.
        c_ospeed: u32,
    }

    /// The modes as the old `TCGETA` gives them.
    pub struct Termio: 18 {
        c_iflag: u16,
        c_oflag: u16,
        c_cflag: u16,
        c_lflag: u16,
        c_line: u8,
        c_cc: [u8; 8],
        _pad0: u8,
    }

    /// The size of a terminal's window.
    pub struct Winsize: 8 {
        ws_row: u16,
        ws_col: u16,
        ws_xpixel: u16,
        ws_ypixel: u16,
    }
}

flags! {
    /// What happens to input.
    pub struct InputModes: u32 {
        IGNBRK = 0o1,
        BRKINT = 0o2,
        IGNPAR = 0o4,
        PARMRK = 0o10,
        INPCK = 0o20,
        ISTRIP = 0o40,
        INLCR = 0o100,
        IGNCR = 0o200,
        ICRNL = 0o400,
        IUCLC = 0o1000,
        IXON = 0o2000,
        IXANY = 0o4000,
        IXOFF = 0o10000,
        IMAXBEL = 0o20000,
        IUTF8 = 0o40000,
    }
}

flags! {
    /// What happens to output.
    pub struct OutputModes: u32 {
        OPOST = 0o1,
        OLCUC = 0o2,
        ONLCR = 0o4,
        OCRNL = 0o10,
        ONOCR = 0o20,
        ONLRET = 0o40,
        OFILL = 0o100,
        OFDEL = 0o200,
        NL1 = 0o400,
        CR1 = 0o1000,
        CR2 = 0o2000,
        TAB1 = 0o4000,
        TAB2 = 0o10000,
        BS1 = 0o20000,
        VT1 = 0o40000,
        FF1 = 0o100000,
    }
}

flags! {
    /// How the line works, besides its speed and character size.
    pub struct ControlModes: u32 {
        CSTOPB = 0o100,
        CREAD = 0o200,
        PARENB = 0o400,
        PARODD = 0o1000,
        HUPCL = 0o2000,
        CLOCAL = 0o4000,
        CMSPAR = 0o10000000000,
        CRTSCTS = 0o20000000000,
        ADDRB = 0o4000000000,
    }
}

flags! {
    /// What the line discipline does for the program.
    pub struct LocalModes: u32 {
        ISIG = 0o1,
        ICANON = 0o2,
        XCASE = 0o4,
        ECHO = 0o10,
        ECHOE = 0o20,
        ECHOK = 0o40,
        ECHONL = 0o100,
        NOFLSH = 0o200,
        TOSTOP = 0o400,
        ECHOCTL = 0o1000,
        ECHOPRT = 0o2000,
        ECHOKE = 0o4000,
        FLUSHO = 0o10000,
        PENDIN = 0o40000,
        IEXTEN = 0o100000,
        EXTPROC = 0o200000,
    }
}

consts! { u32:
    CSIZE = 0o60,
    CS5 = 0,
    CS6 = 0o20,
    CS7 = 0o40,
    CS8 = 0o60,
    CBAUD = 0o10017,
    CBAUDEX = 0o10000,
    CIBAUD = 0o2003600000,
    NLDLY = 0o400,
    CRDLY = 0o3000,
    TABDLY = 0o14000,
    TAB3 = 0o14000,
    BSDLY = 0o20000,
    VTDLY = 0o40000,
    FFDLY = 0o100000,
    B0 = 0,
    B50 = 0o1,
    B75 = 0o2,
    B110 = 0o3,
    B134 = 0o4,
    B150 = 0o5,
    B200 = 0o6,
    B300 = 0o7,
    B600 = 0o10,
    B1200 = 0o11,
    B1800 = 0o12,
    B2400 = 0o13,
    B4800 = 0o14,
    B9600 = 0o15,
    B19200 = 0o16,
    B38400 = 0o17,
    BOTHER = 0o10000,
    B57600 = 0o10001,
    B115200 = 0o10002,
    B230400 = 0o10003,
    B460800 = 0o10004,
    B500000 = 0o10005,
    B576000 = 0o10006,
    B921600 = 0o10007,
    B1000000 = 0o10010,
    B1152000 = 0o10011,
    B1500000 = 0o10012,
    B2000000 = 0o10013,
    B2500000 = 0o10014,
    B3000000 = 0o10015,
    B3500000 = 0o10016,
    B4000000 = 0o10017,
    /// How far the input speed is shifted in the control modes.
    IBSHIFT = 16,
    TCIFLUSH = 0,
    TCOFLUSH = 1,
    TCIOFLUSH = 2,
    TCOOFF = 0,
    TCOON = 1,
    TCIOFF = 2,
    TCION = 3,
    N_TTY = 0,
}

consts! { usize:
    VINTR = 0,
    VQUIT = 1,
    VERASE = 2,
    VKILL = 3,
    VEOF = 4,
    VTIME = 5,
    VMIN = 6,
    VSWTC = 7,
    VSTART = 8,
    VSTOP = 9,
    VSUSP = 10,
    VEOL = 11,
    VREPRINT = 12,
    VDISCARD = 13,
    VWERASE = 14,
    VLNEXT = 15,
    VEOL2 = 16,
    NCCS = 19,
    /// How many bytes a line in canonical mode can have.
    N_TTY_BUF_SIZE = 4096,
}

/// The control character that stands for none.
pub const POSIX_VDISABLE: u8 = 0;

impl Termios {
    /// The modes of a terminal nobody has changed.
    pub const INITIAL: Self = {
        let mut c_cc = [0; 19];
        (c_cc[VINTR], c_cc[VQUIT], c_cc[VERASE], c_cc[VKILL]) = (3, 0x1c, 0x7f, 0x15);
        (c_cc[VEOF], c_cc[VTIME], c_cc[VMIN], c_cc[VSTART]) = (4, 0, 1, 0x11);
        (c_cc[VSTOP], c_cc[VSUSP], c_cc[VREPRINT], c_cc[VDISCARD]) = (0x13, 0x1a, 0x12, 0x0f);
        (c_cc[VWERASE], c_cc[VLNEXT]) = (0x17, 0x16);
        Self {
            c_iflag: InputModes::ICRNL.union(InputModes::IXON).bits(),
            c_oflag: OutputModes::OPOST.union(OutputModes::ONLCR).bits(),
            c_cflag: B38400 | CS8 | ControlModes::CREAD.union(ControlModes::HUPCL).bits(),
            c_lflag: LocalModes::ISIG
                .union(LocalModes::ICANON)
                .union(LocalModes::ECHO)
                .union(LocalModes::ECHOE)
                .union(LocalModes::ECHOK)
                .union(LocalModes::ECHOCTL)
                .union(LocalModes::ECHOKE)
                .union(LocalModes::IEXTEN)
                .bits(),
            c_line: 0,
            c_cc,
        }
    };
}

/// The `B` code of a speed in bits per second, where there is one.
pub fn baud_code(rate: u32) -> Option<u32> {
    (B0..=B38400).chain(B57600..=B4000000).find(|&code| baud_rate(code) == Some(rate))
}

/// The speed in bits per second that a `B` code stands for; none for [`BOTHER`].
pub const fn baud_rate(code: u32) -> Option<u32> {
    Some(match code & CBAUD {
        B0 => 0,
        B50 => 50,
        B75 => 75,
        B110 => 110,
        B134 => 134,
        B150 => 150,
        B200 => 200,
        B300 => 300,
        B600 => 600,
        B1200 => 1200,
        B1800 => 1800,
        B2400 => 2400,
        B4800 => 4800,
        B9600 => 9600,
        B19200 => 19200,
        B38400 => 38400,
        B57600 => 57600,
        B115200 => 115_200,
        B230400 => 230_400,
        B460800 => 460_800,
        B500000 => 500_000,
        B576000 => 576_000,
        B921600 => 921_600,
        B1000000 => 1_000_000,
        B1152000 => 1_152_000,
        B1500000 => 1_500_000,
        B2000000 => 2_000_000,
        B2500000 => 2_500_000,
        B3000000 => 3_000_000,
        B3500000 => 3_500_000,
        B4000000 => 4_000_000,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_terminal() {
        assert_eq!(Termios::INITIAL.c_lflag, 0o105073);
        assert_eq!(Termios::INITIAL.c_cflag, 0o2277);
        assert_eq!(baud_rate(Termios::INITIAL.c_cflag), Some(38400));
        assert_eq!(size_of::<Termios2>(), size_of::<libc::termios2>());
    }
}
