#include "sentry/control/client.h"

#include <sys/socket.h>

#include "base/status_macros.h"
#include "sentry/control/messages.h"

namespace sentry::control {
namespace {

constexpr size_t kMaxEarlyReplies = 1024;

absl::Status Gone() { return absl::UnavailableError("the sandbox has ended"); }

}  // namespace

absl::StatusOr<uint64_t> ControlClient::Send(pb::Request& request, const std::vector<int>& fds) {
  request.set_id(next_id_++);
  RETURN_IF_ERROR(SendFrame(socket_.get(), EncodeFrame(request.SerializeAsString()), fds));
  return request.id();
}

absl::Status ControlClient::Collect() {
  Frame frame;
  while (reader_.Next(frame)) {
    pb::Reply reply;
    if (!reply.ParseFromString(frame.payload)) return absl::InternalError("the sandbox sent a malformed reply");
    if (early_.size() >= kMaxEarlyReplies) return absl::InternalError("the sandbox sent replies nobody asked for");
    early_[reply.id()] = std::move(reply);
  }
  return absl::OkStatus();
}

absl::StatusOr<pb::Reply> ControlClient::Receive(uint64_t id) {
  for (;;) {
    RETURN_IF_ERROR(Collect());
    if (auto it = early_.find(id); it != early_.end()) {
      pb::Reply reply = std::move(it->second);
      early_.erase(it);
      RETURN_IF_ERROR(StatusFromMessage(reply.code(), reply.error()));
      return reply;
    }
    switch (reader_.Receive(socket_.get(), 0)) {
      case FrameReader::State::kClosed:
        return Gone();
      case FrameReader::State::kBroken:
        return absl::InternalError("the sandbox sent a malformed reply");
      default:
        break;
    }
  }
}

absl::StatusOr<pb::Reply> ControlClient::Call(pb::Request& request, const std::vector<int>& fds) {
  ASSIGN_OR_RETURN(uint64_t id, Send(request, fds));
  return Receive(id);
}

absl::Status ControlClient::Start() {
  pb::Request request;
  request.mutable_start();
  return Call(request).status();
}

absl::StatusOr<int32_t> ControlClient::Exec(const ProcessSpec& spec, bool kill_on_hangup) {
  pb::Request request;
  std::vector<int> fds = ProcessToMessage(spec, *request.mutable_exec()->mutable_process());
  request.mutable_exec()->set_kill_on_hangup(kill_on_hangup);
  ASSIGN_OR_RETURN(pb::Reply reply, Call(request, fds));
  return reply.exec().pid();
}

absl::StatusOr<uint64_t> ControlClient::BeginWait(int32_t pid) {
  pb::Request request;
  request.mutable_wait()->set_pid(pid);
  return Send(request);
}

absl::StatusOr<bool> ControlClient::FinishWait(uint64_t id, int& wait_status) {
  FrameReader::State state = reader_.Receive(socket_.get(), MSG_DONTWAIT);
  RETURN_IF_ERROR(Collect());
  if (auto it = early_.find(id); it != early_.end()) {
    pb::Reply reply = std::move(it->second);
    early_.erase(it);
    RETURN_IF_ERROR(StatusFromMessage(reply.code(), reply.error()));
    wait_status = reply.wait().wait_status();
    return true;
  }
  if (state == FrameReader::State::kClosed || state == FrameReader::State::kBroken) return Gone();
  return false;
}

absl::StatusOr<int> ControlClient::Wait(int32_t pid) {
  ASSIGN_OR_RETURN(uint64_t id, BeginWait(pid));
  ASSIGN_OR_RETURN(pb::Reply reply, Receive(id));
  return reply.wait().wait_status();
}

absl::Status ControlClient::Signal(pb::SignalRequest::Target target, int32_t pid, int signo) {
  pb::Request request;
  request.mutable_signal()->set_target(target);
  request.mutable_signal()->set_pid(pid);
  request.mutable_signal()->set_signo(signo);
  return Call(request).status();
}

absl::StatusOr<std::vector<ProcessInfo>> ControlClient::Processes() {
  pb::Request request;
  request.mutable_processes();
  ASSIGN_OR_RETURN(pb::Reply reply, Call(request));
  std::vector<ProcessInfo> list;
  for (const pb::ProcessInfo& info : reply.processes().processes()) list.push_back(ProcessInfoFromMessage(info));
  return list;
}

absl::Status ControlClient::Pause() {
  pb::Request request;
  request.mutable_pause();
  return Call(request).status();
}

absl::Status ControlClient::Resume() {
  pb::Request request;
  request.mutable_resume();
  return Call(request).status();
}

absl::StatusOr<Stats> ControlClient::GetStats() {
  pb::Request request;
  request.mutable_stats();
  ASSIGN_OR_RETURN(pb::Reply reply, Call(request));
  return StatsFromMessage(reply.stats());
}

absl::Status ControlClient::Resize(int32_t pid, uint16_t rows, uint16_t columns) {
  pb::Request request;
  request.mutable_resize()->set_pid(pid);
  request.mutable_resize()->set_rows(rows);
  request.mutable_resize()->set_columns(columns);
  return Call(request).status();
}

}  // namespace sentry::control
