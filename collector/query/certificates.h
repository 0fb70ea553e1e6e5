// Certificates and private keys of the service and its clients, as gRPC takes them.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>

#include "collector/query/answer_source.h"
#include "collector/query/service.h"
#include "common/result.h"

namespace keytrail {

// Without certificates: plain text. Error: the file, what is wrong with it, how to mend it. That a key
// belongs to its certificate is not checked here: gRPC does, when it begins.
std::shared_ptr<grpc::ServerCredentials> ServerCredentials(const ServicePem& pem);
Result<std::shared_ptr<grpc::ChannelCredentials>> ClientCredentials(const ClientTls& tls);

}  // namespace keytrail
