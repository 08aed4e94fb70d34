#include "data/parallel_text.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "tests/support/files.h"
#include "tests/support/tensors.h"

namespace exactmamba::data {
namespace {

using testing::error_of;
using testing::external_data;
using testing::golden;
using testing::put_file;
using testing::TemporaryFolder;

using Pairs = std::vector<std::pair<std::string, std::string>>;

Pairs read(const std::string& name) {
  Pairs pairs;
  read_pairs(name, OnInvalidUtf8::kFail, [&](const SentencePair& pair, const std::string&) {
    pairs.emplace_back(pair.source, pair.target);
  });
  return pairs;
}

std::string refusal(const std::string& name) {
  return error_of<core::InputError>([&] { read(name); });
}

TEST(ParallelText, GoldenIwsltFilesHaveTheirPairs) {
  const core::Json expected = core::read_json(golden("data/iwslt_expected.json"));
  const auto pairs = expected["pairs"].get<Pairs>();
  for (const std::string name :
       {"train.tags.de-en.{de,en}", "IWSLT.test.de-en.{de,en}.xml", "IWSLT.test.crlf.de-en.{de,en}.xml"})
    EXPECT_EQ(read(golden("data/iwslt/" + name)), pairs) << name;
}

TEST(ParallelText, GoldenMalformedXmlIsRefusedAtItsLine) {
  const core::Json expected = core::read_json(golden("data/malformed_expected.json"));
  int files = 0;
  for (const core::Json& entry : expected["files"]) {
    const std::string name = entry["file"].get<std::string>();
    if (!name.ends_with(".xml")) continue;
    const std::string other = entry["other_side"].get<std::string>();
    const std::string message = refusal(golden("data").string() + "/{" + name + "," + other + "}");
    const std::string line = entry["line"].is_number() ? fmt::format(":{}:", entry["line"].get<int>()) : ":";
    EXPECT_TRUE(message.starts_with(golden("data/" + name).string() + line)) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    ++files;
  }
  EXPECT_EQ(files, 7);
}

TEST(ParallelText, XmlMessagesSayWhatIsWrong) {
  const auto message = [](const std::string& name) {
    return refusal(golden("data").string() + "/{malformed/iwslt-" + name +
                   ".de,iwslt/IWSLT.test.de-en.en}.xml");
  };
  EXPECT_CONTAINS(message("seg-not-closed"), "a <seg> without </seg>");
  EXPECT_CONTAINS(message("seg-missing"), ":15: segment '5' of document '1' stands beside segment '4'");
  EXPECT_CONTAINS(message("seg-missing"), "23 and 24 segments");
  EXPECT_CONTAINS(message("seg-twice"), "segment '3' of document '1' stands beside segment '4'");
  EXPECT_CONTAINS(message("bad-entity"), "undefined entity");
  EXPECT_CONTAINS(message("cut-short"), "XML");
  EXPECT_CONTAINS(message("invalid-utf8"), ":14: this is not UTF-8");
  EXPECT_CONTAINS(message("no-seg"), "no <seg>");
}

TEST(ParallelText, AnEntityThatOnlyADtdElsewhereMayKnowIsRefused) {
  const TemporaryFolder folder;
  put_file(folder / "a.de.xml",
           "<!DOCTYPE mteval SYSTEM \"elsewhere.dtd\">\n<mteval>\n<seg id=\"1\">a &nbsp; b</seg></mteval>\n");
  put_file(folder / "a.en.xml", "<mteval>\n<seg id=\"1\">a b</seg></mteval>\n");
  EXPECT_CONTAINS(refusal(folder / "a.{de,en}.xml"), "a.de.xml:3: ");
  EXPECT_CONTAINS(refusal(folder / "a.{de,en}.xml"), "undefined entity &nbsp;");
}

TEST(ParallelText, ATalkWithALineMissingIsFound) {
  const TemporaryFolder folder;
  const auto copy = [&](const std::string& from, const std::string& to) {
    put_file(folder / to, core::read_file(golden("data/" + from)));
  };
  copy("malformed/iwslt-train-line-missing.de", "train.tags.x.de");
  copy("iwslt/train.tags.de-en.en", "train.tags.x.en");
  // Line 18 of the other side is its tenth sentence; here the second talk's first stands there.
  EXPECT_EQ(refusal(folder / "train.tags.x.{de,en}"),
            (folder / "train.tags.x.de").string() + ":26: a talk begins here, but not beside (" +
                (folder / "train.tags.x.en").string() + ":18): the sentences before differ in number");
}

TEST(ParallelText, TwoFilesAreTakenLineByLine) {
  const TemporaryFolder folder;
  put_file(folder / "a.de", "eins\r\n\r\n <url> drei \r\n");
  put_file(folder / "a.en", "one\ntwo\nthree");
  EXPECT_EQ(read(folder / "a.{de,en}"), (Pairs{{"eins", "one"}, {"", "two"}, {" <url> drei ", "three"}}));
  EXPECT_EQ(read(folder / "a.{en,de}").front(), (Pairs::value_type{"one", "eins"}));
  std::vector<std::string> places;
  read_pairs(folder / "a.{en,de}", OnInvalidUtf8::kFail,
             [&](const SentencePair&, const std::string& where) { places.push_back(where); });
  EXPECT_EQ(places.back(), (folder / "a.en").string() + ":3");
}

TEST(ParallelText, UnequalNumbersOfLinesAreBothNamed) {
  const TemporaryFolder folder;
  put_file(folder / "a.de", "1\n2\n3\n4\n");
  put_file(folder / "a.en", "1\n2\n");
  const std::string de = (folder / "a.de").string(), en = (folder / "a.en").string();
  EXPECT_EQ(refusal(folder / "a.{de,en}"),
            de + " has 4 sentences, but " + en + " has 2; each needs its translation");
  EXPECT_EQ(refusal(folder / "a.{en,de}"),
            en + " has 2 sentences, but " + de + " has 4; each needs its translation");
}

TEST(ParallelText, ColumnsOfATableCanBeChosen) {
  const TemporaryFolder folder;
  put_file(folder / "a.tsv", "one\teins\tun\ntwo\tzwei\tdeux\n");
  EXPECT_EQ(read(folder / "a.tsv"), (Pairs{{"one", "eins"}, {"two", "zwei"}}));
  EXPECT_EQ(read((folder / "a.tsv").string() + "{3,1}"), (Pairs{{"un", "one"}, {"deux", "two"}}));
  EXPECT_CONTAINS(refusal((folder / "a.tsv").string() + "{1,4}"),
                  "a.tsv:1: there is no column 4, only 3 (separated by TABs)");
  for (const std::string wrong : {"{0,1}", "{1,x}", "{1,2x}", "{,1}", "{1,-2}"})
    EXPECT_CONTAINS(refusal((folder / "a.tsv").string() + wrong), "is not the number of a column");
}

TEST(ParallelText, BadRecordsMayBeSkipped) {
  const TemporaryFolder folder;
  put_file(folder / "a.tsv", "one\teins\ntwo\n\xFF\tx\nthree\tdrei\n");
  put_file(folder / "train.tags.de", "a\n\xFF\nc\nd\n");
  put_file(folder / "train.tags.en", "1\n2\n3\xFF\n4\n");
  Pairs pairs;
  int problems = 0;
  const Tolerance tolerance(OnInvalidUtf8::kFail, [&](const std::string&) { ++problems; });
  const auto take = [&](const SentencePair& pair, const std::string&) {
    pairs.emplace_back(pair.source, pair.target);
  };
  read_pairs(folder / "a.tsv", tolerance, take);
  read_pairs(folder / "train.tags.{de,en}", tolerance, take);
  EXPECT_EQ(pairs, (Pairs{{"one", "eins"}, {"three", "drei"}, {"a", "1"}, {"d", "4"}}));
  EXPECT_EQ(problems, 4);
  EXPECT_CONTAINS(refusal(folder / "train.tags.{de,en}"), "train.tags.de:2: this is not UTF-8");
}

TEST(ParallelText, OtherNamesAndMissingFilesAreRefused) {
  const TemporaryFolder folder;
  put_file(folder / "a.de", "x\n");
  for (const std::string name : {"a.de", "a.{de}", "a.{de", "a.de}"})
    EXPECT_CONTAINS(refusal(folder / name), "name.{de,en}");
  for (const std::string name : {"a.{de,en,fr}", "{a,b}.{de,en}", "a.}de,en{", "a.{{de,en}}", "a.tsv{1,2,3}"})
    EXPECT_CONTAINS(refusal(folder / name), "one pair of braces with two sides, as in name.{de,en}");
  for (const std::string name : {"a.{de,de}", "a.tsv{1,1}"})
    EXPECT_CONTAINS(refusal(folder / name), name + "': both sides are ");
  EXPECT_CONTAINS(error_of<core::IoError>([&] { read(folder / "a.{de,en}"); }), "a.en: ");
}

/// The sides of pairs, with braces or one by one, have the same sentences.
TEST(ParallelText, AllTextsAreReadOfAnyFile) {
  const auto pairs = core::read_json(golden("data/iwslt_expected.json"))["pairs"].get<Pairs>();
  std::vector<std::string> sources, both;
  for (const auto& [source, target] : pairs) {
    sources.push_back(source);
    both.push_back(source);
    both.push_back(target);
  }
  const auto texts = [](const std::string& name) {
    std::vector<std::string> found;
    read_all_texts(name, "text", OnInvalidUtf8::kFail,
                   [&](const std::string& text, const std::string&) { found.push_back(text); });
    return found;
  };
  const std::string folder = golden("data/iwslt").string() + "/";
  EXPECT_EQ(texts(folder + "train.tags.de-en.{de,en}"), both);
  EXPECT_EQ(texts(folder + "IWSLT.test.de-en.{de,en}.xml"), both);
  EXPECT_EQ(texts(folder + "train.tags.de-en.de"), sources);
  EXPECT_EQ(texts(folder + "IWSLT.test.de-en.de.xml"), sources);
  const TemporaryFolder other;
  put_file(other / "a.tsv", "a\tb\tnot read\nc\td\n");
  put_file(other / "a.txt", "a\tb\nc\n");
  put_file(other / "a.de", "a\tb\nc\n");
  EXPECT_EQ(texts((other / "a.tsv").string()), (std::vector<std::string>{"a", "b", "c", "d"}));
  EXPECT_EQ(texts((other / "a.de").string()), (std::vector<std::string>{"a\tb", "c"}));
  EXPECT_EQ(texts((other / "a.txt").string()), std::vector<std::string>{"a\tb\nc\n"});
}

TEST(ParallelText, NamesStandForFiles) {
  using Files = std::vector<std::string>;
  EXPECT_EQ(pair_files("a/set.{de,en}.xml.gz"), (Files{"a/set.de.xml.gz", "a/set.en.xml.gz"}));
  EXPECT_EQ(pair_files("pairs.tsv.xz{2,1}"), Files{"pairs.tsv.xz"});
  EXPECT_EQ(pair_files("pairs.tsv"), Files{"pairs.tsv"});
}

TEST(ParallelText, ReadsPublicSets) {
  if (external_data().empty()) GTEST_SKIP() << "EXACTMAMBA_DATA is not set";
  const auto count = [](const std::string& name) { return read((external_data() / name).string()).size(); };
  EXPECT_EQ(count("multi30k/train.{de,en}.gz"), 29'000u);
  EXPECT_EQ(count("tatoeba-anki/deu-eng.2018-05-13.tsv.xz{2,1}"), 169'813u);
  for (const auto& [set, segments] : std::map<std::string, size_t>{{"dev2010", 888},
                                                                   {"tst2010", 1568},
                                                                   {"tst2011", 1433},
                                                                   {"tst2012", 1700},
                                                                   {"tst2013", 993},
                                                                   {"tst2014", 1305},
                                                                   {"tst2015", 1080}}) {
    const std::string folder = external_data() / "iwslt17-en-de";
    const Pairs xml = read(folder + "/IWSLT17.TED." + set + ".en-de.{de,en}.xml.gz");
    EXPECT_EQ(xml.size(), segments) << set;
    EXPECT_EQ(xml, read(folder + "/" + set + ".{de,en}")) << set;  // their text, extracted by another program
  }
}

}  // namespace
}  // namespace exactmamba::data
