// Evidence lines for one cause, in the order in which a person follows them: said, used, refused, witness,
// again.
#pragma once

#include <string>
#include <vector>

#include "collector/correlate/judge.h"

namespace keytrail::correlate {

class EvidenceWriter {
 public:
  EvidenceWriter(const Scene& scene, const Judge& judge, const Cause& cause)
      : scene_(scene), judge_(judge), cause_(cause) {}

  std::vector<Evidence> Lines() const;
  // The complaint that stands for all: the first one.
  const CaseComplaint* First() const {
    return cause_.complaints.empty() ? nullptr : &cause_.complaints.front();
  }
  // The key or range start that the complaint is about.
  static std::optional<std::string> KeyOf(const Complaint& k);
  // The statement that gave the client the range it used, nullopt if none was seen.
  std::optional<ToldAt> Source() const;

 private:
  Evidence Line(uint32_t observation, uint32_t logical, int64_t t_ns) const;
  Evidence Fault(const FaceFault& fault) const;
  Evidence Statement(const ToldAt& told, const char* label) const;
  // The message that gave the client its route, with what its region cache did with it.
  Evidence RouteSource(const ToldAt& told, const CaseComplaint& k) const;
  Evidence Request(const CaseComplaint& k) const;
  Evidence Refusal(const CaseComplaint& k) const;
  Evidence Served(const ServedOutside& s) const;
  void AddWitnesses(std::vector<Evidence>& lines, uint32_t not_range) const;

  const Scene& scene_;
  const Judge& judge_;
  const Cause& cause_;
};

}  // namespace keytrail::correlate
