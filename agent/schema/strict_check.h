// Does a message fit a type? (StrictResult in schema.h.) Internal to this room.
#pragma once

#include "agent/schema/schema.h"
#include "agent/schema/tables.h"

namespace keytrail::schema {

StrictResult CheckMessage(const Tables& tables, int32_t plain_table, Bytes message);

}  // namespace keytrail::schema
