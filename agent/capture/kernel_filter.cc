#include "agent/capture/kernel_filter.h"

#include <algorithm>
#include <array>

#include "common/bytes.h"
#include "common/limits.h"

namespace keytrail {

namespace {

constexpr uint16_t kLoadByte = BPF_LD | BPF_B | BPF_ABS;
constexpr uint16_t kLoadHalf = BPF_LD | BPF_H | BPF_ABS;
constexpr uint16_t kLoadWord = BPF_LD | BPF_W | BPF_ABS;
// With the length of the headers before TCP in X.
constexpr uint16_t kLoadTcpByte = BPF_LD | BPF_B | BPF_IND;
constexpr uint16_t kLoadTcpHalf = BPF_LD | BPF_H | BPF_IND;
constexpr uint16_t kLoadTcpWord = BPF_LD | BPF_W | BPF_IND;

// A place in the program that is not known yet. Jumps go forward only.
struct Label {
  std::vector<size_t> jumps;
};

class Program {
 public:
  void Add(uint16_t code, uint32_t k = 0) { code_.push_back({code, 0, 0, k}); }
  void Go(Label& to) {
    to.jumps.push_back(code_.size());
    Add(BPF_JMP | BPF_JA);
  }
  // Conditional jumps reach 255 instructions, BPF_JA any.
  void GoIf(uint16_t test, uint32_t k, Label& to) {
    code_.push_back({static_cast<uint16_t>(BPF_JMP | test | BPF_K), 0, 1, k});
    Go(to);
  }
  void GoUnless(uint16_t test, uint32_t k, Label& to) {
    code_.push_back({static_cast<uint16_t>(BPF_JMP | test | BPF_K), 1, 0, k});
    Go(to);
  }
  void GoUnlessX(uint16_t test, Label& to) {
    code_.push_back({static_cast<uint16_t>(BPF_JMP | test | BPF_X), 1, 0, 0});
    Go(to);
  }
  void Here(Label& label) {
    for (const size_t jump : label.jumps) code_[jump].k = static_cast<uint32_t>(code_.size() - jump - 1);
    label.jumps.clear();
  }
  size_t size() const { return code_.size(); }
  void Append(const std::vector<sock_filter>& more) { code_.insert(code_.end(), more.begin(), more.end()); }
  std::vector<sock_filter> Take() { return std::move(code_); }

 private:
  std::vector<sock_filter> code_;
};

// Instructions of one connection, both directions: each its ports, its addresses word by word, and a jump.
size_t SizeOf(const FlowKey& flow) {
  return flow.a.address.family == 4 ? 2 * (3 + 2 * 3 + 1) : 2 * (3 + 8 * 3 + 1);
}

// A packet that goes from `from` to `to` is dropped.
void DropOneWay(Program& program, uint32_t network, const Endpoint& from, const Endpoint& to, Label& drop) {
  Label next;
  program.Add(kLoadTcpWord, network);
  program.GoUnless(BPF_JEQ, uint32_t{from.port} << 16 | to.port, next);
  const bool v4 = from.address.family == 4;
  uint32_t at = network + (v4 ? 12 : 8);
  for (const Endpoint* end : {&from, &to}) {
    for (size_t i = 0; i < (v4 ? 4u : 16u); i += 4, at += 4) {
      program.Add(kLoadWord, at);
      program.GoUnless(BPF_JEQ, LoadBe32(end->address.bytes.data() + i), next);
    }
  }
  program.Go(drop);
  program.Here(next);
}

void GoIfPort(Program& program, uint32_t network, const std::vector<uint16_t>& ports, Label& to) {
  if (ports.empty()) return;
  for (const uint32_t at : {network, network + 2}) {
    program.Add(kLoadTcpHalf, at);
    for (const uint16_t port : ports) program.GoIf(BPF_JEQ, port, to);
  }
}

// What begins as an HTTP/2 connection does, or with a frame that is nearly always alone in its packet: enough
// to notice gRPC where nobody looked for it. X is kept.
void GoIfHttp2(Program& program, uint32_t network, Label& to) {
  Label none;
  program.Add(BPF_STX, 0);
  program.Add(kLoadTcpByte, network + 12);
  program.Add(BPF_ALU | BPF_AND | BPF_K, 0xF0);
  program.Add(BPF_ALU | BPF_RSH | BPF_K, 2);
  program.Add(BPF_ALU | BPF_ADD | BPF_X);
  program.Add(BPF_MISC | BPF_TAX);
  // A load beyond the end would end the program, and the packet.
  program.Add(BPF_LD | BPF_W | BPF_LEN);
  program.GoUnless(BPF_JGE, network + 4, none);
  program.Add(BPF_ALU | BPF_SUB | BPF_K, network + 4);
  program.GoUnlessX(BPF_JGE, none);
  program.Add(kLoadTcpWord, network);
  for (const uint32_t word :
       {0x50524920u /* "PRI " */, 0x00000806u /* PING */, 0x00000408u /* WINDOW_UPDATE */}) {
    program.GoIf(BPF_JEQ, word, to);
  }
  program.Here(none);
  program.Add(BPF_LDX | BPF_MEM, 0);
}

}  // namespace

std::string PortFilterText(const std::vector<PortRange>& ports, bool with_vlan) {
  std::string tcp;
  for (const PortRange& range : ports) {
    tcp += (tcp.empty() ? "tcp portrange " : " or tcp portrange ") + std::to_string(range.first) + "-" +
           std::to_string(range.last);
  }
  const std::string text =
      tcp +
      " or (ip[6:2] & 0x1fff != 0)"
      " or (ip6 and (ip6[6] = 0 or ip6[6] = 43 or ip6[6] = 44 or ip6[6] = 51 or ip6[6] = 60 or ip6[6] = 135))"
      " or udp dst port 4789 or udp dst port 8472 or udp dst port 6081"
      " or ip proto 47 or ip proto 4 or ip proto 41 or ip6 proto 47 or ip6 proto 4 or ip6 proto 41";
  if (!with_vlan) return text;
  // Each `vlan` moves what stands behind it by a tag.
  return "(" + text + ") or (vlan and (" + text + ")) or (vlan and (" + text + "))";
}

std::vector<sock_filter> RefinedProgram(FilterLink link, const FilterRefinement& refinement,
                                        const std::vector<sock_filter>& base) {
  const uint32_t network = link == FilterLink::kEthernet ? 14 : 0;
  Program program;
  Label v4;
  Label tcp;
  Label not_excluded;
  Label pass;
  Label drop;
  program.Add(kLoadHalf,
              link == FilterLink::kEthernet ? 12 : static_cast<uint32_t>(SKF_AD_OFF + SKF_AD_PROTOCOL));
  program.GoIf(BPF_JEQ, 0x0800, v4);
  program.GoUnless(BPF_JEQ, 0x86DD, not_excluded);
  program.Add(kLoadByte, network + 6);
  program.GoUnless(BPF_JEQ, 6, not_excluded);
  program.Add(BPF_LD | BPF_IMM, 6);
  program.Add(BPF_ST, 1);
  program.Add(BPF_LDX | BPF_IMM, 40);
  program.Go(tcp);
  program.Here(v4);
  program.Add(kLoadByte, network + 9);
  program.GoUnless(BPF_JEQ, 6, not_excluded);
  program.Add(kLoadHalf, network + 6);
  program.GoIf(BPF_JSET, 0x3FFF, not_excluded);  // a fragment
  program.Add(BPF_LD | BPF_IMM, 4);
  program.Add(BPF_ST, 1);
  program.Add(BPF_LDX | BPF_B | BPF_MSH, network);
  program.Here(tcp);

  GoIfPort(program, network, refinement.wanted_ports, refinement.pass_wanted ? pass : not_excluded);
  if (refinement.find_http2) GoIfHttp2(program, network, pass);
  if (!refinement.excluded_ports.empty()) GoIfHttp2(program, network, not_excluded);
  GoIfPort(program, network, refinement.excluded_ports, drop);

  // Beginnings and ends are always seen: then the exclusion ends, too.
  program.Add(kLoadTcpByte, network + 13);
  program.GoIf(BPF_JSET, 0x07, not_excluded);  // FIN, SYN, RST
  Label v6_flows;
  program.Add(BPF_LD | BPF_MEM, 1);
  program.GoUnless(BPF_JEQ, 4, v6_flows);
  size_t room = BPF_MAXINSNS - std::min<size_t>(BPF_MAXINSNS, base.size() + program.size() + 8);
  for (const uint8_t family : {4, 6}) {
    if (family == 6) program.Here(v6_flows);
    for (const FlowKey& flow : refinement.excluded) {
      if (flow.a.address.family != family || SizeOf(flow) > room) continue;
      room -= SizeOf(flow);
      DropOneWay(program, network, flow.a, flow.b, drop);
      DropOneWay(program, network, flow.b, flow.a, drop);
    }
    program.Go(not_excluded);
  }
  program.Here(pass);
  program.Add(BPF_RET | BPF_K, static_cast<uint32_t>(limits::kSnapLen));
  program.Here(drop);
  program.Add(BPF_RET | BPF_K, 0);
  program.Here(not_excluded);
  if (base.empty()) {
    program.Add(BPF_RET | BPF_K, static_cast<uint32_t>(limits::kSnapLen));
  } else {
    program.Append(base);
  }
  return program.Take();
}

}  // namespace keytrail
