#include "collector/query/certificates.h"

#include "common/limits.h"
#include "common/whole_file.h"

namespace keytrail {

namespace {

Result<std::string> ReadPem(const std::string& path, FileTrust trust, const std::string& what) {
  Result<std::string> text = ReadWholeFile(path, limits::kMaxCertificateBytes, trust);
  if (!text) return text;
  const size_t begin = text->find("-----BEGIN ");
  if (begin == std::string::npos)
    return Error{"'" + path + "' is no PEM file (-----BEGIN " + what + "-----)"};
  for (size_t at = begin; at != std::string::npos; at = text->find("-----BEGIN ", at + 1)) {
    const size_t end = text->find("-----", at + 11);
    if (end != std::string::npos && text->substr(at + 11, end - at - 11).ends_with(what)) return text;
  }
  return Error{"'" + path + "' has no " + what + " in it"};
}

Result<std::string> ReadCertificates(const std::string& path) {
  return ReadPem(path, FileTrust::kOnlyOwnerWrites, "CERTIFICATE");
}

Result<std::string> ReadPrivateKey(const std::string& path) {
  return ReadPem(path, FileTrust::kGroupMayRead, "PRIVATE KEY");
}

}  // namespace

Result<ServicePem> ReadServicePem(const ServiceTls& tls) {
  ServicePem pem;
  if (!tls.given()) return pem;
  Result<std::string> certificate = ReadCertificates(tls.certificate);
  if (!certificate) return Error{"--query-cert: " + certificate.error()};
  pem.certificate = std::move(*certificate);
  Result<std::string> key = ReadPrivateKey(tls.key);
  if (!key) return Error{"--query-key: " + key.error()};
  pem.key = std::move(*key);
  if (tls.client_ca.empty()) return pem;
  Result<std::string> authorities = ReadCertificates(tls.client_ca);
  if (!authorities) return Error{"--query-client-ca: " + authorities.error()};
  pem.client_ca = std::move(*authorities);
  return pem;
}

std::shared_ptr<grpc::ServerCredentials> ServerCredentials(const ServicePem& pem) {
  if (pem.certificate.empty()) return grpc::InsecureServerCredentials();
  grpc::SslServerCredentialsOptions options(pem.client_ca.empty()
                                                ? GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE
                                                : GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  options.pem_key_cert_pairs.push_back({pem.key, pem.certificate});
  options.pem_root_certs = pem.client_ca;
  return grpc::SslServerCredentials(options);
}

Result<std::shared_ptr<grpc::ChannelCredentials>> ClientCredentials(const ClientTls& tls) {
  if (tls.ca.empty()) return grpc::InsecureChannelCredentials();
  grpc::SslCredentialsOptions options;
  Result<std::string> authorities = ReadCertificates(tls.ca);
  if (!authorities) return Error{"--tls-ca: " + authorities.error()};
  options.pem_root_certs = std::move(*authorities);
  if (!tls.certificate.empty()) {
    Result<std::string> certificate = ReadCertificates(tls.certificate);
    if (!certificate) return Error{"--tls-cert: " + certificate.error()};
    Result<std::string> key = ReadPrivateKey(tls.key);
    if (!key) return Error{"--tls-key: " + key.error()};
    options.pem_cert_chain = std::move(*certificate);
    options.pem_private_key = std::move(*key);
  }
  return grpc::SslCredentials(options);
}

}  // namespace keytrail
