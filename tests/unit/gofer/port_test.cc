// BindPort: the one request with a descriptor, and what else the peer may try to have bound.
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "tests/unit/gofer/gofer_fixture.h"

namespace gofer {
namespace {

class PortTest : public testing::Test {
 protected:
  explicit PortTest(bool allowed = true) : server_(OneMount(dir_), Options(allowed)) {
    client_ = Client::Create(std::move(server_.client_end));
    EXPECT_OK(client_->Attach(0));
  }
  ~PortTest() override {
    client_.reset();
    server_.Join();
  }
  static ServerOptions Options(bool allowed) {
    ServerOptions options;
    options.bind_ports = allowed;
    return options;
  }
  static base::UniqueFd Socket(int family) { return base::UniqueFd(socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0)); }
  template <typename T>
  static std::string_view Bytes(const T& address) {
    return {reinterpret_cast<const char*>(&address), sizeof(address)};
  }
  static sockaddr_in Loopback() {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
  }

  TempDirectory dir_;
  RunningServer server_;
  base::RefPtr<Client> client_;
};

class NoPortTest : public PortTest {
 protected:
  NoPortTest() : PortTest(false) {}
};

TEST_F(PortTest, BindsTheSocketThatCameAlong) {
  base::UniqueFd socket = Socket(AF_INET);
  ASSERT_TRUE(socket.valid());
  EXPECT_OK(client_->BindPort(socket.get(), Bytes(Loopback())));
  sockaddr_in name = {};
  socklen_t length = sizeof(name);
  ASSERT_EQ(getsockname(socket.get(), reinterpret_cast<sockaddr*>(&name), &length), 0);
  EXPECT_NE(name.sin_port, 0);
  // Once is enough, and the connection goes on.
  EXPECT_ERRNO(EINVAL, client_->BindPort(socket.get(), Bytes(Loopback())));
  base::UniqueFd second = Socket(AF_INET);
  EXPECT_ERRNO(EADDRINUSE, client_->BindPort(second.get(), Bytes(name)));
  EXPECT_OK(client_->Attach(0));
}

TEST_F(PortTest, BindsNothingButInternetSocketsToInternetAddresses) {
  base::UniqueFd internet = Socket(AF_INET), local = Socket(AF_UNIX);
  sockaddr_un path = {};
  path.sun_family = AF_UNIX;
  EXPECT_ERRNO(EAFNOSUPPORT, client_->BindPort(local.get(), Bytes(path).substr(0, 20)));
  EXPECT_ERRNO(EINVAL, client_->BindPort(local.get(), Bytes(Loopback())));
  EXPECT_ERRNO(EINVAL, client_->BindPort(internet.get(), Bytes(Loopback()).substr(0, 15)));
  EXPECT_ERRNO(EAFNOSUPPORT, client_->BindPort(internet.get(), {}));
  base::UniqueFd file = dir_.Open();
  EXPECT_FALSE(client_->BindPort(file.get(), Bytes(Loopback())).ok());
  EXPECT_ERRNO(EBADF, client_->BindPort(-1, Bytes(Loopback())));
  EXPECT_OK(client_->Attach(0));
}

TEST_F(PortTest, ADescriptorWithAnotherRequestEndsTheConnection) {
  auto channel = MakeChannel();
  ASSERT_OK(channel);
  RunningServer server(OneMount(dir_), Options(true));
  std::vector<uint8_t> packet;
  ASSERT_TRUE(EncodeRequest(AttachRequest{}, 1, {}, packet));
  base::UniqueFd file = dir_.Open();
  ASSERT_OK(SendPacket(server.client_end.get(), packet, file.get(), true));
  std::vector<uint8_t> buffer(kMaxMessageBytes);
  auto got = ReceivePacket(server.client_end.get(), buffer, nullptr, nullptr, true);
  EXPECT_TRUE(got.ok() && *got == 0);
  server.Join();
  EXPECT_EQ(server.end, ServeEnd::kProtocolError);
}

TEST_F(NoPortTest, IsRefusedWithoutTheOption) {
  base::UniqueFd socket = Socket(AF_INET);
  EXPECT_ERRNO(EPERM, client_->BindPort(socket.get(), Bytes(Loopback())));
  EXPECT_OK(client_->Attach(0));
  sockaddr_in name = {};
  socklen_t length = sizeof(name);
  ASSERT_EQ(getsockname(socket.get(), reinterpret_cast<sockaddr*>(&name), &length), 0);
  EXPECT_EQ(name.sin_port, 0);
}

}  // namespace
}  // namespace gofer
