keytrail_test(key_codec_test SOURCES unit/common/key_codec_test.cc DEPENDS common)
