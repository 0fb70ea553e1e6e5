#include "agent/http2/http2_decoder.h"

#include <vector>

#include "agent/http2/http2_connection.h"

namespace keytrail {

struct Http2Decoder::State {
  State(Http2Sink& sink, Counters& counters, ProtocolSink* protocols) : shared(sink, counters) {
    shared.protocols = protocols;
  }

  Http2Shared shared;
  std::vector<std::unique_ptr<Http2Connection>> connections;  // by ConnectionRef::slot
};

Http2Decoder::Http2Decoder(Http2Sink& sink, Counters& counters, ProtocolSink* protocols)
    : state_(std::make_unique<State>(sink, counters, protocols)) {}

Http2Decoder::~Http2Decoder() = default;

void Http2Decoder::OnOpen(const ConnectionRef& connection, TimeNs) {
  auto& connections = state_->connections;
  if (connections.size() <= connection.slot) connections.resize(connection.slot + 1);
  connections[connection.slot] = std::make_unique<Http2Connection>(state_->shared);
}

void Http2Decoder::OnBytes(const ConnectionRef& connection, int direction, TimeNs time, uint64_t,
                           Bytes bytes) {
  if (bytes.empty()) return;
  state_->connections[connection.slot]->OnBytes(connection, direction, time, bytes);
}

void Http2Decoder::OnGap(const ConnectionRef& connection, int direction, TimeNs time, uint64_t,
                         uint64_t length) {
  if (length == 0) return;
  state_->connections[connection.slot]->OnGap(connection, direction, time, length);
}

void Http2Decoder::OnClose(const ConnectionRef& connection, TimeNs time, CloseReason reason) {
  state_->connections[connection.slot]->OnClose(connection, time, reason);
  state_->connections[connection.slot].reset();
}

}  // namespace keytrail
