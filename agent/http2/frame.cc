#include "agent/http2/frame.h"

namespace keytrail {

bool IsLegalFrame(const FrameHeader& h, uint32_t max_frame_bytes) {
  if (h.length > max_frame_bytes) return false;
  const uint32_t padding = h.has(kFlagPadded) ? 1 : 0;
  switch (h.type) {
    case kFrameData:
      return h.stream != 0 && h.length >= padding;
    case kFrameHeaders:
      return h.stream != 0 && h.length >= padding + (h.has(kFlagPriority) ? 5 : 0);
    case kFramePriority:
      return h.stream != 0 && h.length == 5;
    case kFrameReset:
      return h.stream != 0 && h.length == 4;
    case kFrameSettings:
      return h.stream == 0 && (h.has(kFlagAck) ? h.length == 0 : h.length % 6 == 0);
    case kFramePushPromise:
      return h.stream != 0 && h.length >= padding + 4;
    case kFramePing:
      return h.stream == 0 && h.length == 8;
    case kFrameGoaway:
      return h.stream == 0 && h.length >= 8;
    case kFrameWindowUpdate:
      return h.length == 4;
    case kFrameContinuation:
      return h.stream != 0;
    default:
      return true;
  }
}

bool IsPlausibleFrame(const FrameHeader& h, uint32_t max_frame_bytes) {
  static constexpr uint8_t kFlagsOf[] = {
      kFlagEndStream | kFlagPadded,                                    // DATA
      kFlagEndStream | kFlagEndHeaders | kFlagPadded | kFlagPriority,  // HEADERS
      0,                                                               // PRIORITY
      0,                                                               // RST_STREAM
      kFlagAck,                                                        // SETTINGS
      0,                                                               // PUSH_PROMISE: refused below
      kFlagAck,                                                        // PING
      0,                                                               // GOAWAY
      0,                                                               // WINDOW_UPDATE
      kFlagEndHeaders,                                                 // CONTINUATION
  };
  if (h.type > kFrameContinuation || h.type == kFramePushPromise) return false;
  if ((h.flags & ~kFlagsOf[h.type]) != 0 || h.reserved) return false;
  if (h.stream != 0 && h.stream % 2 == 0) return false;
  return IsLegalFrame(h, max_frame_bytes);
}

}  // namespace keytrail
