// UNIX sockets: stream, datagram, seqpacket; names in the file system and abstract ones; descriptors, credentials.
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <vector>

#include "support/support.h"

namespace conformance {
namespace {

struct Address {
  sockaddr_un un = {};
  socklen_t size = sizeof(sa_family_t);
  Address() { un.sun_family = AF_UNIX; }
  explicit Address(const std::string& path) : Address() {
    strcpy(un.sun_path, path.c_str());
    size = offsetof(sockaddr_un, sun_path) + path.size() + 1;
  }
  static Address Abstract(const std::string& name) {
    Address a;
    memcpy(a.un.sun_path + 1, name.data(), name.size());
    a.size = offsetof(sockaddr_un, sun_path) + 1 + name.size();
    return a;
  }
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&un); }
};

Fd Socket(int type = SOCK_STREAM) { return Fd(socket(AF_UNIX, type, 0)); }

std::string Receive(int fd, int flags = MSG_DONTWAIT) {
  char buffer[1000];
  ssize_t n = recv(fd, buffer, sizeof(buffer), flags);
  return n < 0 ? std::string("!") + strerrorname_np(errno) : std::string(buffer, n);
}

TEST(Socketpair, CarriesBothWays) {
  for (int type : {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET}) {
    SocketPair s = MakeSocketPair(type);
    ASSERT_FD(s.a);
    ASSERT_EQ(send(s.a.get(), "ping", 4, 0), 4);
    EXPECT_EQ(Receive(s.b.get()), "ping");
    ASSERT_EQ(write(s.b.get(), "pong", 4), 4);
    EXPECT_EQ(Receive(s.a.get()), "pong");
    EXPECT_EQ(Receive(s.a.get()), "!EAGAIN");
  }
}

TEST(Socketpair, ChecksItsArguments) {
  int fds[2];
  EXPECT_ERRNO(socketpair(AF_UNIX, 7, 0, fds), ESOCKTNOSUPPORT);
  EXPECT_ERRNO(socketpair(AF_UNIX, SOCK_STREAM, 99, fds), EPROTONOSUPPORT);
  EXPECT_ERRNO(socketpair(AF_INET, SOCK_STREAM, 0, fds), EOPNOTSUPP);
  EXPECT_ERRNO(socketpair(999, SOCK_STREAM, 0, fds), EAFNOSUPPORT);
  EXPECT_ERRNO(syscall(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, BadPointer()), EFAULT);
  EXPECT_ERRNO(socket(AF_UNIX, SOCK_STREAM | 0x100, 0), EINVAL);
  Fd s(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  EXPECT_EQ(fcntl(s.get(), F_GETFD), FD_CLOEXEC);
  EXPECT_TRUE(fcntl(s.get(), F_GETFL) & O_NONBLOCK);
}

TEST(Stream, BytesMergeAndDatagramsDoNot) {
  SocketPair stream = MakeSocketPair(), datagram = MakeSocketPair(SOCK_DGRAM), packet = MakeSocketPair(SOCK_SEQPACKET);
  for (SocketPair* s : {&stream, &datagram, &packet}) {
    ASSERT_EQ(send(s->a.get(), "ab", 2, 0), 2);
    ASSERT_EQ(send(s->a.get(), "cd", 2, 0), 2);
  }
  EXPECT_EQ(Receive(stream.b.get()), "abcd");
  EXPECT_EQ(Receive(datagram.b.get()), "ab");
  EXPECT_EQ(Receive(datagram.b.get()), "cd");
  char c;
  EXPECT_EQ(recv(packet.b.get(), &c, 1, MSG_TRUNC), 2) << "MSG_TRUNC tells the whole length";
  EXPECT_EQ(Receive(packet.b.get()), "cd") << "the rest of a packet is lost";
}

TEST(Stream, PeekWaitallAndDontwait) {
  SocketPair s = MakeSocketPair();
  ASSERT_EQ(send(s.a.get(), "abc", 3, 0), 3);
  EXPECT_EQ(Receive(s.b.get(), MSG_PEEK), "abc");
  EXPECT_EQ(Receive(s.b.get()), "abc");
  pid_t pid = ForkChild([&] {
    char buffer[6];
    CHILD_CHECK(recv(s.b.get(), buffer, 6, MSG_WAITALL) == 6);
  });
  ASSERT_EQ(send(s.a.get(), "abc", 3, 0), 3);
  ASSERT_TRUE(WaitUntilBlocked(pid));
  ASSERT_EQ(send(s.a.get(), "def", 3, 0), 3);
  EXPECT_EXITED(WaitFor(pid), 0);
}

TEST(Stream, ClosingEndsTheOtherSide) {
  SocketPair s = MakeSocketPair();
  ASSERT_EQ(send(s.a.get(), "last", 4, 0), 4);
  s.a.Close();
  EXPECT_EQ(Receive(s.b.get()), "last");
  EXPECT_EQ(Receive(s.b.get()), "");
  EXPECT_ERRNO(send(s.b.get(), "x", 1, MSG_NOSIGNAL), EPIPE);
  int status = RunInChild([&] { send(s.b.get(), "x", 1, 0); });
  EXPECT_SIGNALED(status, SIGPIPE);
}

TEST(Stream, UnreadDataResetsThePeer) {
  SocketPair s = MakeSocketPair();
  ASSERT_EQ(send(s.a.get(), "unread", 6, 0), 6);
  s.b.Close();
  EXPECT_EQ(Receive(s.a.get()), "!ECONNRESET");
  EXPECT_EQ(Receive(s.a.get()), "");
}

TEST(Stream, ShutdownClosesOneDirection) {
  SocketPair s = MakeSocketPair();
  ASSERT_OK(shutdown(s.a.get(), SHUT_WR));
  EXPECT_EQ(Receive(s.b.get()), "");
  EXPECT_ERRNO(send(s.a.get(), "x", 1, MSG_NOSIGNAL), EPIPE);
  ASSERT_EQ(send(s.b.get(), "back", 4, 0), 4);
  EXPECT_EQ(Receive(s.a.get()), "back");
  EXPECT_ERRNO(shutdown(s.a.get(), 99), EINVAL);
  EXPECT_ERRNO(shutdown(0, SHUT_RD), ENOTSOCK);
}

TEST(Stream, BackpressureBlocksAndReleases) {
  SocketPair s = MakeSocketPair();
  std::vector<char> page(4096);
  long sent = 0;
  ssize_t n;
  while ((n = send(s.a.get(), page.data(), page.size(), MSG_DONTWAIT)) > 0) sent += n;
  EXPECT_EQ(errno, EAGAIN);
  EXPECT_GE(sent, 4096 * 10);
  pollfd p = {s.a.get(), POLLOUT, 0};
  EXPECT_EQ(poll(&p, 1, 0), 0);
  long received = 0;
  while ((n = recv(s.b.get(), page.data(), page.size(), MSG_DONTWAIT)) > 0) received += n;
  EXPECT_EQ(received, sent);
  EXPECT_EQ(poll(&p, 1, 0), 1);
}

TEST(Stream, AMegabyteArrivesWhole) {
  SocketPair s = MakeSocketPair();
  pid_t pid = ForkChild([&] {
    s.b.Close();
    std::vector<char> data(1 << 20);
    for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(i % 251);
    CHILD_CHECK(send(s.a.get(), data.data(), data.size(), 0) == 1 << 20);
  });
  s.a.Close();
  size_t total = 0;
  char buffer[10'000];
  ssize_t n;
  while ((n = recv(s.b.get(), buffer, sizeof(buffer), 0)) > 0) {
    for (ssize_t i = 0; i < n; ++i) ASSERT_EQ(buffer[i], static_cast<char>((total + i) % 251));
    total += n;
  }
  EXPECT_EQ(total, 1u << 20);
  EXPECT_EXITED(WaitFor(pid), 0);
}

TEST(Listen, AcceptsConnectionsByName) {
  TempDir dir;
  Address address(dir / "s");
  Fd listener = Socket();
  ASSERT_OK(bind(listener.get(), address.get(), address.size));
  struct stat st;
  ASSERT_OK(stat((dir / "s").c_str(), &st));
  EXPECT_TRUE(S_ISSOCK(st.st_mode));
  Fd client = Socket();
  EXPECT_ERRNO(connect(client.get(), address.get(), address.size), ECONNREFUSED) << "nobody listens yet";
  ASSERT_OK(listen(listener.get(), 4));
  ASSERT_OK(connect(client.get(), address.get(), address.size));
  sockaddr_un peer;
  socklen_t size = sizeof(peer);
  Fd server(accept4(listener.get(), reinterpret_cast<sockaddr*>(&peer), &size, SOCK_CLOEXEC));
  ASSERT_FD(server);
  EXPECT_EQ(size, sizeof(sa_family_t)) << "the client has no name";
  EXPECT_EQ(fcntl(server.get(), F_GETFD), FD_CLOEXEC);
  ASSERT_EQ(send(client.get(), "hi", 2, 0), 2);
  EXPECT_EQ(Receive(server.get()), "hi");
  size = sizeof(peer);
  ASSERT_OK(getpeername(client.get(), reinterpret_cast<sockaddr*>(&peer), &size));
  EXPECT_STREQ(peer.sun_path, (dir / "s").c_str());
  EXPECT_ERRNO(connect(client.get(), address.get(), address.size), EISCONN);
  ASSERT_OK(unlink((dir / "s").c_str()));
  Fd late = Socket();
  EXPECT_ERRNO(connect(late.get(), address.get(), address.size), ENOENT);
}

TEST(Accept, WithoutADescriptorLeftTheConnectionWaits) {
  TempDir dir;
  int status = RunInChild([&] {
    Address address(dir / "s");
    Fd listener = Socket(), client = Socket();
    CHILD_CHECK(bind(listener.get(), address.get(), address.size) == 0 && listen(listener.get(), 1) == 0);
    CHILD_CHECK(connect(client.get(), address.get(), address.size) == 0);
    struct rlimit limit = {64, 64};
    CHILD_CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    while (dup(0) >= 0) {
    }
    CHILD_CHECK(accept(listener.get(), nullptr, nullptr) == -1 && errno == EMFILE);
    CHILD_CHECK(close(40) == 0);
    CHILD_CHECK(accept(listener.get(), nullptr, nullptr) == 40);
  });
  EXPECT_EXITED(status, 0);
}

TEST(Listen, AbstractNamesNeedNoFile) {
  Address address = Address::Abstract("conformance-" + std::to_string(getpid()));
  Fd listener = Socket();
  ASSERT_OK(bind(listener.get(), address.get(), address.size));
  ASSERT_OK(listen(listener.get(), 1));
  Fd other = Socket();
  EXPECT_ERRNO(bind(other.get(), address.get(), address.size), EADDRINUSE);
  ASSERT_OK(connect(other.get(), address.get(), address.size));
  sockaddr_un name;
  socklen_t size = sizeof(name);
  ASSERT_OK(getsockname(listener.get(), reinterpret_cast<sockaddr*>(&name), &size));
  EXPECT_EQ(size, address.size);
  EXPECT_EQ(memcmp(&name, &address.un, size), 0);
  listener.Close();
  Fd again = Socket();
  EXPECT_OK(bind(again.get(), address.get(), address.size)) << "the name goes with its socket";
}

TEST(Listen, AutobindChoosesAName) {
  Address none;
  Fd s = Socket();
  ASSERT_OK(bind(s.get(), none.get(), sizeof(sa_family_t)));
  sockaddr_un name;
  socklen_t size = sizeof(name);
  ASSERT_OK(getsockname(s.get(), reinterpret_cast<sockaddr*>(&name), &size));
  EXPECT_EQ(size, sizeof(sa_family_t) + 6u);
  EXPECT_EQ(name.sun_path[0], 0);
}

TEST(Bind, FailsAsDocumented) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "file", ""));
  Address taken(dir / "file"), absent(dir / "no/s"), below(dir / "file/s"), good(dir / "s");
  Fd s = Socket();
  EXPECT_ERRNO(bind(s.get(), taken.get(), taken.size), EADDRINUSE);
  EXPECT_ERRNO(bind(s.get(), absent.get(), absent.size), ENOENT);
  EXPECT_ERRNO(bind(s.get(), below.get(), below.size), ENOTDIR);
  EXPECT_ERRNO(bind(s.get(), good.get(), 1), EINVAL);
  EXPECT_ERRNO(bind(s.get(), good.get(), 200), EINVAL);
  EXPECT_ERRNO(syscall(SYS_bind, s.get(), BadPointer(), 20), EFAULT);
  EXPECT_ERRNO(bind(-1, good.get(), good.size), EBADF);
  EXPECT_ERRNO(bind(0, good.get(), good.size), ENOTSOCK);
  good.un.sun_family = AF_INET;
  EXPECT_ERRNO(bind(s.get(), good.get(), good.size), EINVAL);
  good.un.sun_family = AF_UNIX;
  ASSERT_OK(bind(s.get(), good.get(), good.size));
  Address second(dir / "second");
  EXPECT_ERRNO(bind(s.get(), second.get(), second.size), EINVAL) << "it has a name";
}

TEST(Connect, FailsAsDocumented) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "file", ""));
  Address file(dir / "file"), absent(dir / "absent"), dgram(dir / "dgram");
  Fd s = Socket(), d = Socket(SOCK_DGRAM);
  ASSERT_OK(bind(d.get(), dgram.get(), dgram.size));
  EXPECT_ERRNO(connect(s.get(), file.get(), file.size), ECONNREFUSED);
  EXPECT_ERRNO(connect(s.get(), absent.get(), absent.size), ENOENT);
  EXPECT_ERRNO(connect(s.get(), dgram.get(), dgram.size), EPROTOTYPE);
  EXPECT_ERRNO(syscall(SYS_connect, s.get(), BadPointer(), 20), EFAULT);
  EXPECT_ERRNO(accept(s.get(), nullptr, nullptr), EINVAL) << "it does not listen";
  EXPECT_ERRNO(accept(d.get(), nullptr, nullptr), EOPNOTSUPP);
  EXPECT_ERRNO(listen(d.get(), 1), EOPNOTSUPP);
  EXPECT_ERRNO(listen(s.get(), 1), EINVAL) << "it has no name";
  EXPECT_ERRNO(send(s.get(), "x", 1, MSG_NOSIGNAL), ENOTCONN);
  EXPECT_EQ(Receive(s.get()), "!EINVAL");
  EXPECT_ERRNO(send(d.get(), "x", 1, 0), ENOTCONN);
}

TEST(Connect, NeedsWritePermission) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  TempDir dir;
  ASSERT_OK(chmod(dir.path().c_str(), 0755));
  Address address(dir / "s");
  Fd listener = Socket();
  ASSERT_OK(bind(listener.get(), address.get(), address.size));
  ASSERT_OK(listen(listener.get(), 1));
  ASSERT_OK(chmod((dir / "s").c_str(), 0755));
  int status = RunInChild([&] {
    CHILD_CHECK(setresuid(1234, 1234, 1234) == 0);
    Fd s = Socket();
    CHILD_CHECK(connect(s.get(), address.get(), address.size) == -1 && errno == EACCES);
  });
  EXPECT_EXITED(status, 0);
}

TEST(Connect, NonblockingWithAFullBacklogFailsWithEAGAIN) {
  Address address = Address::Abstract("backlog-" + std::to_string(getpid()));
  Fd listener = Socket();
  ASSERT_OK(bind(listener.get(), address.get(), address.size));
  ASSERT_OK(listen(listener.get(), 1));
  std::vector<Fd> clients;
  int connected = 0;
  for (int i = 0; i < 5; ++i) {
    clients.push_back(Socket(SOCK_STREAM | SOCK_NONBLOCK));
    if (connect(clients.back().get(), address.get(), address.size) == 0) {
      ++connected;
    } else {
      EXPECT_EQ(errno, EAGAIN);
    }
  }
  EXPECT_EQ(connected, 2);
}

TEST(Datagram, NamesAndReplies) {
  TempDir dir;
  Address server(dir / "server"), client(dir / "client");
  Fd s = Socket(SOCK_DGRAM), c = Socket(SOCK_DGRAM);
  ASSERT_OK(bind(s.get(), server.get(), server.size));
  ASSERT_OK(bind(c.get(), client.get(), client.size));
  ASSERT_EQ(sendto(c.get(), "ask", 3, 0, server.get(), server.size), 3);
  char buffer[10];
  sockaddr_un from;
  socklen_t size = sizeof(from);
  ASSERT_EQ(recvfrom(s.get(), buffer, 10, 0, reinterpret_cast<sockaddr*>(&from), &size), 3);
  EXPECT_STREQ(from.sun_path, (dir / "client").c_str());
  ASSERT_EQ(sendto(s.get(), "answer", 6, 0, reinterpret_cast<sockaddr*>(&from), size), 6);
  EXPECT_EQ(Receive(c.get()), "answer");
  s.Close();
  EXPECT_ERRNO(sendto(c.get(), "x", 1, 0, server.get(), server.size), ECONNREFUSED);
}

TEST(Datagram, AnEmptyOneIsOne) {
  SocketPair s = MakeSocketPair(SOCK_DGRAM);
  ASSERT_EQ(send(s.a.get(), "", 0, 0), 0);
  ASSERT_EQ(send(s.a.get(), "x", 1, 0), 1);
  EXPECT_EQ(Receive(s.b.get()), "");
  EXPECT_EQ(Receive(s.b.get()), "x");
  std::vector<char> big(1 << 20);
  EXPECT_ERRNO(send(s.a.get(), big.data(), big.size(), 0), EMSGSIZE);
}

// Sends one byte with `control` and returns what sendmsg said.
ssize_t SendWith(int fd, void* control, size_t size) {
  char c = 'x';
  iovec v = {&c, 1};
  msghdr m = {};
  m.msg_iov = &v;
  m.msg_iovlen = 1;
  m.msg_control = control;
  m.msg_controllen = size;
  return sendmsg(fd, &m, 0);
}

ssize_t SendFds(int fd, const std::vector<int>& fds) {
  std::vector<char> control(CMSG_SPACE(fds.size() * sizeof(int)));
  auto* header = reinterpret_cast<cmsghdr*>(control.data());
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
  memcpy(CMSG_DATA(header), fds.data(), fds.size() * sizeof(int));
  return SendWith(fd, control.data(), control.size());
}

std::vector<Fd> ReceiveFds(int fd, size_t room = 16, int flags = 0, int* message_flags = nullptr) {
  char c;
  iovec v = {&c, 1};
  std::vector<char> control(CMSG_SPACE(room * sizeof(int)));
  msghdr m = {};
  m.msg_iov = &v;
  m.msg_iovlen = 1;
  m.msg_control = control.data();
  m.msg_controllen = control.size();
  std::vector<Fd> fds;
  if (recvmsg(fd, &m, flags) < 0) return fds;
  if (message_flags != nullptr) *message_flags = m.msg_flags;
  for (cmsghdr* h = CMSG_FIRSTHDR(&m); h != nullptr; h = CMSG_NXTHDR(&m, h)) {
    if (h->cmsg_type != SCM_RIGHTS) continue;
    for (size_t i = 0; i < (h->cmsg_len - CMSG_LEN(0)) / sizeof(int); ++i) {
      int number;
      memcpy(&number, CMSG_DATA(h) + i * sizeof(int), sizeof(int));
      fds.emplace_back(number);
    }
  }
  return fds;
}

TEST(Rights, DescriptorsTravel) {
  for (int type : {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET}) {
    SocketPair s = MakeSocketPair(type);
    Pipe p = MakePipe();
    ASSERT_EQ(SendFds(s.a.get(), {p.write_end.get(), p.read_end.get()}), 1);
    p.write_end.Close();
    std::vector<Fd> fds = ReceiveFds(s.b.get());
    ASSERT_EQ(fds.size(), 2u);
    ASSERT_EQ(write(fds[0].get(), "x", 1), 1);
    char c;
    EXPECT_EQ(read(p.read_end.get(), &c, 1), 1);
    EXPECT_EQ(fcntl(fds[0].get(), F_GETFD), 0);
    ASSERT_EQ(SendFds(s.a.get(), {0}), 1);
    fds = ReceiveFds(s.b.get(), 16, MSG_CMSG_CLOEXEC);
    ASSERT_EQ(fds.size(), 1u);
    EXPECT_EQ(fcntl(fds[0].get(), F_GETFD), FD_CLOEXEC);
  }
}

TEST(Rights, TooLittleRoomTruncatesAndClosesTheRest) {
  SocketPair s = MakeSocketPair();
  Pipe p = MakePipe();
  ASSERT_EQ(SendFds(s.a.get(), {p.write_end.get(), p.write_end.get(), p.write_end.get()}), 1);
  int flags = 0;
  std::vector<Fd> fds = ReceiveFds(s.b.get(), 1, 0, &flags);
  EXPECT_TRUE(flags & MSG_CTRUNC);
  EXPECT_LE(fds.size(), 2u);  // The alignment of the buffer may leave room for one more.
  fds.clear();
  p.write_end.Close();
  char c;
  EXPECT_EQ(read(p.read_end.get(), &c, 1), 0) << "no copy is left open";
}

TEST(Rights, DescriptorsInFlightAreClosedWithTheirSocket) {
  Pipe p = MakePipe();
  {
    SocketPair s = MakeSocketPair();
    ASSERT_EQ(SendFds(s.a.get(), {p.write_end.get()}), 1);
    p.write_end.Close();
  }
  char c;
  EXPECT_EQ(read(p.read_end.get(), &c, 1), 0);
}

TEST(Rights, FailsAsDocumented) {
  SocketPair s = MakeSocketPair();
  EXPECT_ERRNO(SendFds(s.a.get(), {12345}), EBADF);
  EXPECT_ERRNO(SendFds(s.a.get(), std::vector<int>(254, 0)), EINVAL) << "more than SCM_MAX_FD";
  EXPECT_EQ(SendFds(s.a.get(), std::vector<int>(253, 0)), 1);
  EXPECT_EQ(ReceiveFds(s.b.get(), 253).size(), 253u);
}

TEST(Rights, ASocketCanTravelThroughItself) {
  SocketPair s = MakeSocketPair();
  ASSERT_EQ(SendFds(s.a.get(), {s.a.get(), s.b.get()}), 1);
  // Closing both now leaves a cycle that only a collector frees; nothing may hang or crash.
}

TEST(Credentials, ArriveWithPasscred) {
  SocketPair s = MakeSocketPair(SOCK_DGRAM);
  int on = 1;
  ASSERT_OK(setsockopt(s.b.get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)));
  ASSERT_EQ(send(s.a.get(), "x", 1, 0), 1);
  char c;
  iovec v = {&c, 1};
  char control[CMSG_SPACE(sizeof(ucred))];
  msghdr m = {};
  m.msg_iov = &v;
  m.msg_iovlen = 1;
  m.msg_control = control;
  m.msg_controllen = sizeof(control);
  ASSERT_EQ(recvmsg(s.b.get(), &m, 0), 1);
  cmsghdr* h = CMSG_FIRSTHDR(&m);
  ASSERT_NE(h, nullptr);
  ASSERT_EQ(h->cmsg_type, SCM_CREDENTIALS);
  ucred cred;
  memcpy(&cred, CMSG_DATA(h), sizeof(cred));
  EXPECT_EQ(cred.pid, getpid());
  EXPECT_EQ(cred.uid, getuid());
  EXPECT_EQ(cred.gid, getgid());
}

TEST(Credentials, OfAnotherNeedPrivilege) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  SocketPair s = MakeSocketPair(SOCK_DGRAM);
  int status = RunInChild([&] {
    CHILD_CHECK(setresuid(1234, 1234, 1234) == 0);
    char control[CMSG_SPACE(sizeof(ucred))] = {};
    auto* h = reinterpret_cast<cmsghdr*>(control);
    h->cmsg_level = SOL_SOCKET;
    h->cmsg_type = SCM_CREDENTIALS;
    h->cmsg_len = CMSG_LEN(sizeof(ucred));
    ucred cred = {getpid(), 0, 0};
    memcpy(CMSG_DATA(h), &cred, sizeof(cred));
    CHILD_CHECK(SendWith(s.a.get(), control, sizeof(control)) == -1 && errno == EPERM);
    cred = {getpid(), 1234, getgid()};
    memcpy(CMSG_DATA(h), &cred, sizeof(cred));
    CHILD_CHECK(SendWith(s.a.get(), control, sizeof(control)) == 1);
  });
  EXPECT_EXITED(status, 0);
}

TEST(Options, TellWhatTheSocketIs) {
  SocketPair s = MakeSocketPair();
  int value;
  socklen_t size = sizeof(value);
  ASSERT_OK(getsockopt(s.a.get(), SOL_SOCKET, SO_TYPE, &value, &size));
  EXPECT_EQ(value, SOCK_STREAM);
  ASSERT_OK(getsockopt(s.a.get(), SOL_SOCKET, SO_DOMAIN, &value, &size));
  EXPECT_EQ(value, AF_UNIX);
  ASSERT_OK(getsockopt(s.a.get(), SOL_SOCKET, SO_ERROR, &value, &size));
  EXPECT_EQ(value, 0);
  ASSERT_OK(getsockopt(s.a.get(), SOL_SOCKET, SO_ACCEPTCONN, &value, &size));
  EXPECT_EQ(value, 0);
  ucred cred;
  size = sizeof(cred);
  ASSERT_OK(getsockopt(s.a.get(), SOL_SOCKET, SO_PEERCRED, &cred, &size));
  EXPECT_EQ(cred.pid, getpid());
  EXPECT_ERRNO(getsockopt(s.a.get(), SOL_SOCKET, 9999, &value, &size), ENOPROTOOPT);
  EXPECT_ERRNO(syscall(SYS_getsockopt, s.a.get(), SOL_SOCKET, SO_TYPE, BadPointer(), &size), EFAULT);
  EXPECT_ERRNO(setsockopt(s.a.get(), SOL_SOCKET, SO_SNDBUF, &value, 1), EINVAL);
  EXPECT_ERRNO(setsockopt(0, SOL_SOCKET, SO_SNDBUF, &value, 4), ENOTSOCK);
}

TEST(Ioctl, FionreadCountsWhatWaits) {
  SocketPair s = MakeSocketPair();
  ASSERT_EQ(send(s.a.get(), "12345", 5, 0), 5);
  int n = 0;
  ASSERT_OK(ioctl(s.b.get(), FIONREAD, &n));
  EXPECT_EQ(n, 5);
  int on = 1;
  ASSERT_OK(ioctl(s.b.get(), FIONBIO, &on));
  EXPECT_TRUE(fcntl(s.b.get(), F_GETFL) & O_NONBLOCK);
  EXPECT_ERRNO(ioctl(s.b.get(), FIONREAD, BadPointer()), EFAULT);
}

TEST(Messages, SendmmsgAndRecvmmsgCarryMany) {
  SocketPair s = MakeSocketPair(SOCK_DGRAM);
  char a[] = "one", b[] = "three";
  iovec va = {a, 3}, vb = {b, 5};
  mmsghdr out[2] = {};
  out[0].msg_hdr.msg_iov = &va;
  out[1].msg_hdr.msg_iov = &vb;
  out[0].msg_hdr.msg_iovlen = out[1].msg_hdr.msg_iovlen = 1;
  ASSERT_EQ(sendmmsg(s.a.get(), out, 2, 0), 2);
  EXPECT_EQ(out[1].msg_len, 5u);
  char x[10], y[10], z[10];
  iovec vx[3] = {{x, 10}, {y, 10}, {z, 10}};
  mmsghdr in[3] = {};
  for (int i = 0; i < 3; ++i) {
    in[i].msg_hdr.msg_iov = &vx[i];
    in[i].msg_hdr.msg_iovlen = 1;
  }
  ASSERT_EQ(recvmmsg(s.b.get(), in, 3, MSG_DONTWAIT, nullptr), 2);
  EXPECT_EQ(in[0].msg_len, 3u);
  EXPECT_EQ(in[1].msg_len, 5u);
}

TEST(Messages, BadPointersFault) {
  SocketPair s = MakeSocketPair();
  EXPECT_ERRNO(send(s.a.get(), BadPointer(), 5, 0), EFAULT);
  ASSERT_EQ(send(s.a.get(), "x", 1, 0), 1);
  EXPECT_ERRNO(recv(s.b.get(), BadPointer(), 1, 0), EFAULT);
  EXPECT_ERRNO(syscall(SYS_sendmsg, s.a.get(), BadPointer(), 0), EFAULT);
  EXPECT_ERRNO(syscall(SYS_recvmsg, s.b.get(), BadPointer(), 0), EFAULT);
  EXPECT_EQ(Receive(s.b.get()), "x");
}

TEST(Timeout, RcvtimeoEndsWithEAGAIN) {
  SocketPair s = MakeSocketPair();
  timeval time = {0, 10'000};
  ASSERT_OK(setsockopt(s.a.get(), SOL_SOCKET, SO_RCVTIMEO, &time, sizeof(time)));
  EXPECT_EQ(Receive(s.a.get(), 0), "!EAGAIN");
  timeval back;
  socklen_t size = sizeof(back);
  ASSERT_OK(getsockopt(s.a.get(), SOL_SOCKET, SO_RCVTIMEO, &back, &size));
  EXPECT_EQ(back.tv_sec, 0);
  EXPECT_GE(back.tv_usec, 10'000);
}

}  // namespace
}  // namespace conformance
