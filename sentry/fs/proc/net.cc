#include "sentry/fs/proc/net.h"

#include <algorithm>
#include <map>

namespace sentry::proc {

namespace {

// Filled by boot, read-only afterwards.
std::map<std::string, NetGenerator, std::less<>>& Generators() {
  static auto* generators = new std::map<std::string, NetGenerator, std::less<>>;
  return *generators;
}

struct Fixed {
  const char* name;
  const char* text;
};
// What a network namespace shows that has a loopback device and nothing else, and in which nothing has happened yet.
// Programs find their columns by the names in the headings.
constexpr Fixed kFixed[] = {
    {"dev",
     "Inter-|   Receive                                                |  Transmit\n "
     "face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier "
     "compressed\n    "
     "lo:       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0      "
     "    "
     "0\n"},
    {"route",
     "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\t"
     "IRTT                                                       \n"},
    {"if_inet6", "00000000000000000000000000000001 01 80 10 80       lo\n"},
    {"ipv6_route",
     "00000000000000000000000000000001 80 00000000000000000000000000000000 00 00000000000000000000000000000000 "
     "00000000 "
     "00000002 00000000 80200001       lo\n"},
    {"arp", "IP address       HW type     Flags       HW address            Mask     Device\n"},
    {"tcp",
     "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout "
     "inode                                                     \n"},
    {"tcp6",
     "  sl  local_address                         remote_address                        st tx_queue rx_queue tr "
     "tm->when "
     "retrnsmt   uid  timeout inode\n"},
    {"udp",
     "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer "
     "drops            \n"},
    {"udp6",
     "  sl  local_address                         remote_address                        st tx_queue rx_queue tr "
     "tm->when "
     "retrnsmt   uid  timeout inode ref pointer drops\n"},
    {"udplite",
     "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer "
     "drops            \n"},
    {"udplite6",
     "  sl  local_address                         remote_address                        st tx_queue rx_queue tr "
     "tm->when "
     "retrnsmt   uid  timeout inode ref pointer drops\n"},
    {"raw",
     "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer "
     "drops            \n"},
    {"raw6",
     "  sl  local_address                         remote_address                        st tx_queue rx_queue tr "
     "tm->when "
     "retrnsmt   uid  timeout inode ref pointer drops\n"},
    {"icmp",
     "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer "
     "drops            \n"},
    {"icmp6",
     "  sl  local_address                         remote_address                        st tx_queue rx_queue tr "
     "tm->when "
     "retrnsmt   uid  timeout inode ref pointer drops\n"},
    {"unix", "Num       RefCount Protocol Flags    Type St Inode Path\n"},
    {"netlink", "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n"},
    {"packet", "sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n"},
    {"protocols",
     "protocol  size sockets  memory press maxhdr  slab module     cl co di ac io in de sh ss gs se re bi br ha uh gp "
     "em\n"},
    {"ptype",
     "Type Device      Function\n"
     "0800          ip_rcv\n"
     "86dd          ipv6_rcv\n"},
    {"igmp",
     "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n"
     "1\tlo        :     1      V3\n\t\t\t\t"
     "010000E0     1 0:00000000\t\t0\n"},
    {"igmp6",
     "1    lo              ff020000000000000000000000000001     1 0000000C 0\n"
     "1    lo              ff010000000000000000000000000001     1 00000008 0\n"},
    {"dev_mcast", ""},
    {"mcfilter", "Idx Device        MCA        SRC    INC    EXC\n"},
    {"mcfilter6", "Idx Device                Multicast Address                   Source Address    INC    EXC\n"},
    {"anycast6", ""},
    {"psched", "000003e8 00000040 000f4240 3b9aca00\n"},
    {"sockstat",
     "sockets: used 0\n"
     "TCP: inuse 0 orphan 0 tw 0 alloc 0 mem 0\n"
     "UDP: inuse 0 mem 0\n"
     "UDPLITE: inuse 0\n"
     "RAW: inuse 0\n"
     "FRAG: inuse 0 memory 0\n"},
    {"sockstat6",
     "TCP6: inuse 0\n"
     "UDP6: inuse 0\n"
     "UDPLITE6: inuse 0\n"
     "RAW6: inuse 0\n"
     "FRAG6: inuse 0 memory 0\n"},
    {"snmp",
     "Ip: Forwarding DefaultTTL InReceives InHdrErrors InAddrErrors ForwDatagrams InUnknownProtos InDiscards "
     "InDelivers "
     "OutRequests OutDiscards OutNoRoutes ReasmTimeout ReasmReqds ReasmOKs ReasmFails FragOKs FragFails FragCreates\n"
     "Ip: 2 64 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
     "Icmp: InMsgs InErrors InCsumErrors InDestUnreachs InTimeExcds InParmProbs InSrcQuenchs InRedirects InEchos "
     "InEchoReps "
     "InTimestamps InTimestampReps InAddrMasks InAddrMaskReps OutMsgs OutErrors OutRateLimitGlobal OutRateLimitHost "
     "OutDestUnreachs OutTimeExcds OutParmProbs OutSrcQuenchs OutRedirects OutEchos OutEchoReps OutTimestamps "
     "OutTimestampReps OutAddrMasks OutAddrMaskReps\n"
     "Icmp: 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
     "Tcp: RtoAlgorithm RtoMin RtoMax MaxConn ActiveOpens PassiveOpens AttemptFails EstabResets CurrEstab InSegs "
     "OutSegs "
     "RetransSegs InErrs OutRsts InCsumErrors\n"
     "Tcp: 1 200 120000 -1 0 0 0 0 0 0 0 0 0 0 0\n"
     "Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors IgnoredMulti MemErrors\n"
     "Udp: 0 0 0 0 0 0 0 0 0\n"
     "UdpLite: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors IgnoredMulti "
     "MemErrors\n"
     "UdpLite: 0 0 0 0 0 0 0 0 0\n"},
    {"netstat",
     "TcpExt: SyncookiesSent SyncookiesRecv SyncookiesFailed EmbryonicRsts PruneCalled RcvPruned OfoPruned "
     "OutOfWindowIcmps "
     "LockDroppedIcmps ArpFilter TW TWRecycled TWKilled PAWSActive PAWSEstab BeyondWindow TSEcrRejected PAWSOldAck "
     "PAWSTimewait DelayedACKs DelayedACKLocked DelayedACKLost ListenOverflows ListenDrops TCPHPHits TCPPureAcks "
     "TCPHPAcks "
     "TCPRenoRecovery TCPSackRecovery TCPSACKReneging TCPSACKReorder TCPRenoReorder TCPTSReorder TCPFullUndo "
     "TCPPartialUndo "
     "TCPDSACKUndo TCPLossUndo TCPLostRetransmit TCPRenoFailures TCPSackFailures TCPLossFailures TCPFastRetrans "
     "TCPSlowStartRetrans TCPTimeouts TCPLossProbes TCPLossProbeRecovery TCPRenoRecoveryFail TCPSackRecoveryFail "
     "TCPRcvCollapsed TCPBacklogCoalesce TCPDSACKOldSent TCPDSACKOfoSent TCPDSACKRecv TCPDSACKOfoRecv TCPAbortOnData "
     "TCPAbortOnClose TCPAbortOnMemory TCPAbortOnTimeout TCPAbortOnLinger TCPAbortFailed TCPMemoryPressures "
     "TCPMemoryPressuresChrono TCPSACKDiscard TCPDSACKIgnoredOld TCPDSACKIgnoredNoUndo TCPSpuriousRTOs TCPMD5NotFound "
     "TCPMD5Unexpected TCPMD5Failure TCPSackShifted TCPSackMerged TCPSackShiftFallback TCPBacklogDrop PFMemallocDrop "
     "TCPMinTTLDrop TCPDeferAcceptDrop IPReversePathFilter TCPTimeWaitOverflow TCPReqQFullDoCookies TCPReqQFullDrop "
     "TCPRetransFail TCPRcvCoalesce TCPOFOQueue TCPOFODrop TCPOFOMerge TCPChallengeACK TCPSYNChallenge "
     "TCPFastOpenActive "
     "TCPFastOpenActiveFail TCPFastOpenPassive TCPFastOpenPassiveFail TCPFastOpenListenOverflow TCPFastOpenCookieReqd "
     "TCPFastOpenBlackhole TCPSpuriousRtxHostQueues BusyPollRxPackets TCPAutoCorking TCPFromZeroWindowAdv "
     "TCPToZeroWindowAdv TCPWantZeroWindowAdv TCPSynRetrans TCPOrigDataSent TCPHystartTrainDetect TCPHystartTrainCwnd "
     "TCPHystartDelayDetect TCPHystartDelayCwnd TCPACKSkippedSynRecv TCPACKSkippedPAWS TCPACKSkippedSeq "
     "TCPACKSkippedFinWait2 TCPACKSkippedTimeWait TCPACKSkippedChallenge TCPWinProbe TCPKeepAlive TCPMTUPFail "
     "TCPMTUPSuccess TCPDelivered TCPDeliveredCE TCPAckCompressed TCPZeroWindowDrop TCPRcvQDrop TCPWqueueTooBig "
     "TCPFastOpenPassiveAltKey TcpTimeoutRehash TcpDuplicateDataRehash TCPDSACKRecvSegs TCPDSACKIgnoredDubious "
     "TCPMigrateReqSuccess TCPMigrateReqFailure TCPPLBRehash TCPAORequired TCPAOBad TCPAOKeyNotFound TCPAOGood "
     "TCPAODroppedIcmps\n"
     "TcpExt: 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 "
     "0 0 0 "
     "0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 "
     "0 0 0 "
     "0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
     "IpExt: InNoRoutes InTruncatedPkts InMcastPkts OutMcastPkts InBcastPkts OutBcastPkts InOctets OutOctets "
     "InMcastOctets "
     "OutMcastOctets InBcastOctets OutBcastOctets InCsumErrors InNoECTPkts InECT1Pkts InECT0Pkts InCEPkts "
     "ReasmOverlaps\n"
     "IpExt: 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n"},
};

// One place for every name: fixed files first, then generators under other names.
struct NetEntry {
  std::string_view name;
  const char* text;  // or
  const NetGenerator* generate;
};
const std::vector<NetEntry>& Entries() {
  static const auto* entries = [] {
    auto* list = new std::vector<NetEntry>;
    for (const Fixed& f : kFixed) {
      auto it = Generators().find(std::string_view(f.name));
      list->push_back({f.name, f.text, it != Generators().end() ? &it->second : nullptr});
    }
    for (const auto& [name, generate] : Generators()) {
      const bool known =
          std::any_of(std::begin(kFixed), std::end(kFixed), [&name = name](const Fixed& f) { return f.name == name; });
      if (!known) list->push_back({name, nullptr, &generate});
    }
    return list;
  }();
  return *entries;
}

class NetFile final : public kernfs::TextFile {
 public:
  NetFile(const TaskRef& ref, const NetEntry& entry, uint64_t ino)
      : TextFile(ref.sb, 0444, ino), task_(ref.task), entry_(entry) {}
  Result<std::string> Generate(VfsContext&, uint64_t& cursor) override {
    cursor = kDone;
    if (entry_.generate == nullptr) return std::string(entry_.text);
    RefPtr<base::RefCounted> net = task_->SnapshotNet();
    return (*entry_.generate)(net.get());
  }

 private:
  const RefPtr<Task> task_;
  const NetEntry& entry_;
};

class NetDir final : public kernfs::KernDir {
 public:
  NetDir(const TaskRef& ref, uint64_t ino) : KernDir(ref.sb, 0555, ino), ref_(ref) {}
  Result<RefPtr<Inode>> Lookup(std::string_view name) override {
    if (!Alive(*ref_.task)) return Errno(ENOENT);
    const std::vector<NetEntry>& entries = Entries();
    for (size_t i = 0; i < entries.size(); ++i) {
      if (entries[i].name == name) return RefPtr<Inode>(base::MakeRef<NetFile>(ref_, entries[i], Ino(i)));
    }
    return Errno(ENOENT);
  }
  Result<bool> Revalidate(std::string_view name, Inode* child) override {
    return child != nullptr && Alive(*ref_.task);
  }
  Result<std::vector<Entry>> List(int64_t after) override {
    if (!Alive(*ref_.task)) return Errno(ENOENT);
    const std::vector<NetEntry>& entries = Entries();
    std::vector<Entry> list;
    for (size_t i = static_cast<size_t>(std::max<int64_t>(after, 0)); i < entries.size(); ++i) {
      list.push_back({std::string(entries[i].name), FileType::kRegular, Ino(i), static_cast<int64_t>(i) + 1});
    }
    return list;
  }

 private:
  uint64_t Ino(size_t i) const { return InoOf(ref_, Area::kNet, static_cast<uint32_t>(i) + 1); }
  const TaskRef ref_;
};

}  // namespace

void SetNetFile(std::string name, NetGenerator generate) { Generators()[std::move(name)] = std::move(generate); }

RefPtr<Inode> NewNetDir(const TaskRef& ref, uint64_t ino) { return base::MakeRef<NetDir>(ref, ino); }

}  // namespace sentry::proc
