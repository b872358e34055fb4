// Calls that wait: sockets.
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>

#include <vector>

#include "restart/call.h"

namespace conformance::restart {
namespace {

struct SocketCall : Call {
  void Prepare() override { pair_ = MakeSocketPair(); }
  void Release(pid_t) override { EXPECT_EQ(write(pair_.b.get(), "x", 1), 1); }
  int fd() const { return pair_.a.get(); }
  SocketPair pair_;
  char c_ = 0;
};
struct ReadSocket : SocketCall {
  long Block() override { return read(fd(), &c_, 1); }
};
struct Recv : SocketCall {
  long Block() override { return recv(fd(), &c_, 1, 0); }
};
struct Recvmsg : SocketCall {
  long Block() override {
    iovec v = {&c_, 1};
    msghdr message = {};
    message.msg_iov = &v;
    message.msg_iovlen = 1;
    return recvmsg(fd(), &message, 0);
  }
};
struct Recvmmsg : SocketCall {
  long Block() override {
    iovec v = {&c_, 1};
    mmsghdr message = {};
    message.msg_hdr.msg_iov = &v;
    message.msg_hdr.msg_iovlen = 1;
    return recvmmsg(fd(), &message, 1, 0, nullptr);
  }
};
struct RecvTimeout : SocketCall {
  long Block() override {
    timeval limit = {kLongSeconds, 0};
    setsockopt(fd(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    return recv(fd(), &c_, 1, 0);
  }
};
struct RecvDatagram : SocketCall {
  void Prepare() override { pair_ = MakeSocketPair(SOCK_DGRAM); }
  long Block() override { return recv(fd(), &c_, 1, 0); }
};
struct Send : SocketCall {
  void Prepare() override {
    SocketCall::Prepare();
    char page[4096] = {};
    while (send(fd(), page, sizeof(page), MSG_DONTWAIT) > 0) {
    }
  }
  long Block() override { return send(fd(), "x", 1, 0); }
  void Release(pid_t) override {
    static char buffer[1 << 20];
    EXPECT_GT(read(pair_.b.get(), buffer, sizeof(buffer)), 0);
  }
};
struct SendTimeout : Send {
  long Block() override {
    timeval limit = {kLongSeconds, 0};
    setsockopt(fd(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    return send(fd(), "x", 1, 0);
  }
};
struct Sendmsg : Send {
  long Block() override {
    char c = 'x';
    iovec v = {&c, 1};
    msghdr message = {};
    message.msg_iov = &v;
    message.msg_iovlen = 1;
    return sendmsg(fd(), &message, 0);
  }
};
struct AcceptUnix : Call {
  void Prepare() override {
    listener_ = Fd(socket(AF_UNIX, SOCK_STREAM, 0));
    address_ = {};
    address_.sun_family = AF_UNIX;
    strcpy(address_.sun_path, (dir_ / "s").c_str());
    EXPECT_OK(bind(listener_.get(), reinterpret_cast<sockaddr*>(&address_), sizeof(address_)));
    EXPECT_OK(listen(listener_.get(), 0));
  }
  long Block() override { return accept(listener_.get(), nullptr, nullptr); }
  void Release(pid_t) override {
    client_ = Fd(socket(AF_UNIX, SOCK_STREAM, 0));
    EXPECT_OK(connect(client_.get(), reinterpret_cast<sockaddr*>(&address_), sizeof(address_)));
  }
  TempDir dir_;
  sockaddr_un address_;
  Fd listener_, client_;
};
struct Accept4Timeout : AcceptUnix {
  long Block() override {
    timeval limit = {kLongSeconds, 0};
    setsockopt(listener_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    return accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC);
  }
};
struct ConnectUnix : AcceptUnix {
  void Prepare() override {
    AcceptUnix::Prepare();
    // A backlog of 0 holds one connection; the next one waits.
    first_ = Fd(socket(AF_UNIX, SOCK_STREAM, 0));
    EXPECT_OK(connect(first_.get(), reinterpret_cast<sockaddr*>(&address_), sizeof(address_)));
  }
  long Block() override {
    Fd s(socket(AF_UNIX, SOCK_STREAM, 0));
    return connect(s.get(), reinterpret_cast<sockaddr*>(&address_), sizeof(address_));
  }
  void Release(pid_t) override { accepted_ = Fd(accept(listener_.get(), nullptr, nullptr)); }
  Fd first_, accepted_;
};
struct TcpCall : Call {
  void Prepare() override {
    listener_ = Fd(socket(AF_INET, SOCK_STREAM, 0));
    address_ = {};
    address_.sin_family = AF_INET;
    address_.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_OK(bind(listener_.get(), reinterpret_cast<sockaddr*>(&address_), sizeof(address_)));
    EXPECT_OK(listen(listener_.get(), backlog_));
    socklen_t size = sizeof(address_);
    EXPECT_OK(getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address_), &size));
  }
  Fd Connect() {
    Fd s(socket(AF_INET, SOCK_STREAM, 0));
    EXPECT_OK(connect(s.get(), reinterpret_cast<sockaddr*>(&address_), sizeof(address_)));
    return s;
  }
  int backlog_ = 5;
  sockaddr_in address_;
  Fd listener_, client_, server_;
};
struct AcceptTcp : TcpCall {
  long Block() override { return accept(listener_.get(), nullptr, nullptr); }
  void Release(pid_t) override { client_ = Connect(); }
};
struct ConnectTcp : TcpCall {
  void Prepare() override {
    // A backlog of 0 holds one connection; the next one's SYN is dropped, and sent again after one, two, four seconds.
    backlog_ = 0;
    TcpCall::Prepare();
    client_ = Connect();
    // The last segment of its handshake may come later.
    pollfd p = {listener_.get(), POLLIN, 0};
    EXPECT_EQ(poll(&p, 1, 10'000), 1);
  }
  long Block() override {
    Fd s(socket(AF_INET, SOCK_STREAM, 0));
    return connect(s.get(), reinterpret_cast<sockaddr*>(&address_), sizeof(address_));
  }
  void Release(pid_t) override { server_ = Fd(accept(listener_.get(), nullptr, nullptr)); }
};
struct RecvTcp : TcpCall {
  void Prepare() override {
    TcpCall::Prepare();
    client_ = Connect();
    server_ = Fd(accept(listener_.get(), nullptr, nullptr));
  }
  long Block() override {
    char c;
    return recv(client_.get(), &c, 1, 0);
  }
  void Release(pid_t) override { EXPECT_EQ(send(server_.get(), "x", 1, 0), 1); }
};
struct RecvUdp : Call {
  void Prepare() override {
    socket_ = Fd(socket(AF_INET, SOCK_DGRAM, 0));
    address_ = {};
    address_.sin_family = AF_INET;
    address_.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_OK(bind(socket_.get(), reinterpret_cast<sockaddr*>(&address_), sizeof(address_)));
    socklen_t size = sizeof(address_);
    EXPECT_OK(getsockname(socket_.get(), reinterpret_cast<sockaddr*>(&address_), &size));
  }
  long Block() override {
    char c;
    return recvfrom(socket_.get(), &c, 1, 0, nullptr, nullptr);
  }
  void Release(pid_t) override {
    EXPECT_EQ(sendto(socket_.get(), "x", 1, 0, reinterpret_cast<sockaddr*>(&address_), sizeof(address_)), 1);
  }
  sockaddr_in address_;
  Fd socket_;
};
struct Sendmmsg : Send {
  long Block() override {
    char c = 'x';
    iovec v = {&c, 1};
    mmsghdr message = {};
    message.msg_hdr.msg_iov = &v;
    message.msg_hdr.msg_iovlen = 1;
    return sendmmsg(fd(), &message, 1, 0);
  }
};
struct SendTcp : RecvTcp {
  void Prepare() override {
    RecvTcp::Prepare();
    FillSocket(client_.get());
  }
  long Block() override { return send(client_.get(), "x", 1, 0); }
  void Release(pid_t) override {
    // What is on its way counts, too: until nothing more comes.
    std::vector<char> data(1 << 20);
    while (recv(server_.get(), data.data(), data.size(), MSG_DONTWAIT) > 0) SleepMs(1);
  }
  static void FillSocket(int fd) {
    std::vector<char> data(1 << 16, 'x');
    // The other side takes some more when it has looked: 40 ms later at most, with delayed acknowledgements.
    for (int quiet = 0; quiet < 100;) {
      if (send(fd, data.data(), data.size(), MSG_DONTWAIT) > 0 || send(fd, "x", 1, MSG_DONTWAIT) > 0) {
        quiet = 0;
      } else {
        ++quiet;
        SleepMs(1);
      }
    }
  }
};
// close(2) waits until the peer's kernel has everything, for as long as SO_LINGER says. The wait is no part of the call
// that a signal could make fail (tcp_close, sk_stream_wait_close).
struct CloseLingering : TcpCall {
  // In the child: its descriptor has to be the last one.
  void PrepareChild() override {
    client_ = Connect();
    const linger wait = {1, kLongSeconds};
    CHILD_CHECK(setsockopt(client_.get(), SOL_SOCKET, SO_LINGER, &wait, sizeof(wait)) == 0);
    SendTcp::FillSocket(client_.get());
  }
  long Block() override { return close(client_.get()); }
  void Release(pid_t) override {
    server_ = Fd(accept(listener_.get(), nullptr, nullptr));
    std::vector<char> data(1 << 20);
    while (recv(server_.get(), data.data(), data.size(), 0) > 0) {
    }
  }
};
struct RecvNetlink : Call {
  void Prepare() override { socket_ = Fd(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE)); }
  long Block() override {
    char bytes[8192];
    return recv(socket_.get(), bytes, sizeof(bytes), 0);
  }
  void Release(pid_t) override {
    struct {
      nlmsghdr header;
      rtgenmsg message;
    } request = {};
    request.header.nlmsg_len = sizeof(request);
    request.header.nlmsg_type = RTM_GETLINK;
    request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
    EXPECT_EQ(send(socket_.get(), &request, sizeof(request), 0), static_cast<ssize_t>(sizeof(request)));
  }
  Fd socket_;
};

}  // namespace

std::vector<CallRow> SocketCalls() {
  return {
      {"read_unix", Make<ReadSocket>, Rule::kRestart},
      {"recv_unix", Make<Recv>, Rule::kRestart},
      {"recvmsg_unix", Make<Recvmsg>, Rule::kRestart},
      {"recvmmsg_unix", Make<Recvmmsg>, Rule::kRestart},
      {"recv_unix_datagram", Make<RecvDatagram>, Rule::kRestart},
      {"recv_unix_timeout", Make<RecvTimeout>, Rule::kInterrupt},
      {"send_unix", Make<Send>, Rule::kRestart},
      {"sendmsg_unix", Make<Sendmsg>, Rule::kRestart},
      {"send_unix_timeout", Make<SendTimeout>, Rule::kInterrupt},
      {"accept_unix", Make<AcceptUnix>, Rule::kRestart},
      {"accept4_unix_timeout", Make<Accept4Timeout>, Rule::kInterrupt},
      {"connect_unix", Make<ConnectUnix>, Rule::kRestart},
      {"accept_tcp", Make<AcceptTcp>, Rule::kRestart},
      {"connect_tcp", Make<ConnectTcp>, Rule::kRestart},
      {"recv_tcp", Make<RecvTcp>, Rule::kRestart},
      {"recvfrom_udp", Make<RecvUdp>, Rule::kRestart},
      {"sendmmsg_unix", Make<Sendmmsg>, Rule::kRestart},
      {"send_tcp", Make<SendTcp>, Rule::kRestart},
      {"close_lingering", Make<CloseLingering>, Rule::kCutShort},
      {"recv_netlink", Make<RecvNetlink>, Rule::kRestart},
  };
}

}  // namespace conformance::restart
