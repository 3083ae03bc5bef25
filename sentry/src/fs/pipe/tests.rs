use super::*;

fn pair() -> (Arc<dyn File>, Arc<dyn File>) {
    let ends = create(&Vfs::new(), &Arc::new(Pipes::default()), &Credentials::root(), OpenFlags::empty());
    let Ends { reader, writer } = ends.expect("root may have pipes");
    (reader, writer)
}

#[test]
fn bytes_go_through_and_ends_hang_up() {
    let (reader, writer) = pair();
    let mut buf = [0; 8];
    assert_eq!(reader.read_at(&mut buf, 0), Err(Errno::EAGAIN));
    assert_eq!(reader.poll(), PollEvents::empty());
    assert_eq!(writer.write_at(b"abc", 0), Ok(3));
    assert_eq!(reader.poll(), READABLE);
    assert_eq!(reader.read_at(&mut buf, 0), Ok(3));
    drop(writer);
    assert_eq!(reader.poll(), PollEvents::POLLHUP);
    assert_eq!(reader.read_at(&mut buf, 0), Ok(0));
}

#[test]
fn a_pipe_without_reader_is_broken() {
    let (reader, writer) = pair();
    drop(reader);
    assert_eq!(writer.poll(), WRITABLE | PollEvents::POLLERR);
    assert_eq!(writer.write_at(b"abc", 0), Err(Errno::EPIPE));
    assert_eq!(writer.write_at(b"", 0), Ok(0));
}

#[test]
fn the_capacity_can_be_changed() {
    let (_reader, writer) = pair();
    let end: &PipeEnd = writer.as_any().downcast_ref().expect("a pipe");
    assert_eq!(end.capacity(), 65536);
    assert_eq!(end.set_capacity(100_000, true), Ok(131_072));
    assert_eq!(end.set_capacity(1, true), Ok(4096));
    assert_eq!(end.set_capacity((1 << 31) + 1, true), Err(Errno::EINVAL));
    assert_eq!(end.set_capacity(2 << 20, false), Err(Errno::EPERM));
    assert_eq!(writer.write_at(&[0; 10000], 0), Ok(4096));
}

#[test]
fn users_are_charged() {
    let pipes = Arc::new(Pipes::default());
    let mut user = Credentials::root();
    user.effective = Default::default();
    pipes.user_pages_soft.store(20, Ordering::Relaxed);
    pipes.user_pages_hard.store(20, Ordering::Relaxed);
    let first = create(&Vfs::new(), &pipes, &user, OpenFlags::empty()).expect("16 pages are free");
    let second = create(&Vfs::new(), &pipes, &user, OpenFlags::empty()).expect("2 pages are free");
    let end: &PipeEnd = second.reader.as_any().downcast_ref().expect("a pipe");
    assert_eq!(end.capacity(), 8192);
    let third = create(&Vfs::new(), &pipes, &user, OpenFlags::empty()).expect("2 more pages are free");
    assert_eq!(create(&Vfs::new(), &pipes, &user, OpenFlags::empty()).err(), Some(Errno::ENFILE));
    drop((first, third));
    assert!(create(&Vfs::new(), &pipes, &user, OpenFlags::empty()).is_ok());
}
