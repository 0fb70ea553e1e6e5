#include "agent/ship/batch_source.h"

#include "agent/ship/batch_queue.h"
#include "common/crc32c.h"
#include "proto/keytrail/record.pb.h"

namespace keytrail {

NumberedBatch NumberBatch(const SealedBatch& sealed, uint64_t sequence) {
  protocol::Envelope envelope;
  protocol::Batch& batch = *envelope.mutable_batch();
  *batch.mutable_payload() = CompressBatch(sealed.payload);
  batch.set_sequence(sequence);
  batch.set_crc32c(Crc32c(AsBytes(batch.payload())));
  batch.set_payload_size(static_cast<uint32_t>(sealed.payload.size()));
  batch.set_records(sealed.records);
  NumberedBatch numbered;
  numbered.sequence = sequence;
  numbered.records = sealed.records;
  numbered.first_ns = sealed.first_ns;
  numbered.last_ns = sealed.last_ns;
  numbered.payload_bytes = sealed.payload.size();
  envelope.SerializeToString(&numbered.message);
  return numbered;
}

bool QueueSource::Next(int64_t now_ns, NumberedBatch& batch) {
  SealedBatch sealed;
  if (!queue_.Take(now_ns, sealed)) return false;
  batch = NumberBatch(sealed, ++last_sequence_);
  return true;
}

bool QueueSource::idle() const {
  return queue_.idle();
}

bool QueueSource::drained() const {
  return queue_.drained();
}

void QueueSource::Lost(const LossRecord& loss) {
  queue_.PutLoss(loss);
}

}  // namespace keytrail
