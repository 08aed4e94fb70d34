#include "data/mixture.h"

#include <map>
#include <set>

#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/support/files.h"

namespace exactmamba::data {
namespace {

using testing::error_of;

/// Row r holds the id `first` + r.
class Counting final : public Dataset {
 public:
  Counting(int64_t first, int64_t rows) : first_(first), rows_(rows) {}
  std::string name() const override { return "counting"; }
  int64_t size() const override { return rows_; }
  Row row(int64_t index) const override { return {{first_ + index}, {first_ + index}, {0}}; }
  int64_t vocab_size() const override { return 10'000; }
  std::string token_text(int64_t id) const override { return std::to_string(id); }
  std::string fingerprint() const override { return std::to_string(first_ * 1000 + rows_); }

 private:
  int64_t first_, rows_;
};

Mixture mixture(const std::vector<double>& weights, bool shuffle = true, uint64_t seed = 7) {
  std::vector<std::shared_ptr<const Dataset>> parts;
  for (size_t i = 0; i < weights.size(); ++i)
    parts.push_back(
        std::make_shared<Counting>(1000 * static_cast<int64_t>(i), 5 + 8 * static_cast<int64_t>(i)));
  return Mixture(std::move(parts), weights, shuffle, seed);
}

int64_t id(const Mixture& rows, int64_t index) { return rows.row(index).input_ids.at(0); }

TEST(Mixture, EveryPartHasItsShareEverywhere) {
  const Mixture rows = mixture({3, 1, 0.5});  // of 1024: 682.67, 227.56, 113.78
  EXPECT_EQ(rows.rows_in_block(), (std::vector<int64_t>{683, 227, 114}));
  std::vector<int64_t> seen(3, 0);
  for (int64_t i = 0; i < 5 * 1024; ++i) {
    ++seen[static_cast<size_t>(id(rows, i) / 1000)];
    for (size_t part = 0; part < 3; ++part) {
      const double share = static_cast<double>(rows.rows_in_block()[part]) / 1024;
      ASSERT_LT(std::abs(static_cast<double>(seen[part]) - share * static_cast<double>(i + 1)), 2.0) << i;
    }
  }
  EXPECT_EQ(seen, (std::vector<int64_t>{5 * 683, 5 * 227, 5 * 114}));
}

TEST(Mixture, APartGivesAllItsRowsBeforeItGivesOneAgain) {
  const Mixture rows = mixture({2, 1});
  std::map<int64_t, std::vector<int64_t>> given;  // [part]
  for (int64_t i = 0; i < 3000; ++i) given[id(rows, i) / 1000].push_back(id(rows, i));
  std::set<std::vector<int64_t>> orders;
  for (const auto& [part, size] : std::map<int64_t, size_t>{{0, 5}, {1, 13}}) {
    for (size_t begin = 0; begin + size <= given[part].size(); begin += size) {
      const std::vector<int64_t> epoch(given[part].begin() + static_cast<std::ptrdiff_t>(begin),
                                       given[part].begin() + static_cast<std::ptrdiff_t>(begin + size));
      EXPECT_EQ(std::set<int64_t>(epoch.begin(), epoch.end()).size(), size);
      if (part == 1) orders.insert(epoch);
    }
  }
  EXPECT_GT(orders.size(), 70u);  // of 76 epochs of 13!
}

TEST(Mixture, WithoutShufflingPartsKeepTheirOrder) {
  const Mixture rows = mixture({1, 1}, false);
  int64_t next[2] = {0, 0};
  for (int64_t i = 0; i < 3000; ++i) {
    const int64_t part = id(rows, i) / 1000;
    EXPECT_EQ(id(rows, i), 1000 * part + next[part]++ % (5 + 8 * part));
  }
}

TEST(Mixture, ARowDependsOnItsIndexOnly) {
  const Mixture rows = mixture({2, 1}), again = mixture({2, 1}), other = mixture({2, 1}, true, 8);
  std::vector<int64_t> forward, backward, differently;
  for (int64_t i = 0; i < 2000; ++i) forward.push_back(id(rows, i));
  for (int64_t i = 1999; i >= 0; --i) backward.insert(backward.begin(), id(again, i));
  for (int64_t i = 0; i < 2000; ++i) differently.push_back(id(other, i));
  EXPECT_EQ(forward, backward);
  EXPECT_NE(forward, differently);
  EXPECT_EQ(rows.fingerprint(), again.fingerprint());
  EXPECT_NE(rows.fingerprint(), other.fingerprint());
  EXPECT_NE(rows.fingerprint(), mixture({1, 2}).fingerprint());
  EXPECT_EQ(rows.fingerprint(), mixture({4, 2}).fingerprint());
}

TEST(Mixture, AWeightWithoutARowIsRefused) {
  EXPECT_CONTAINS(error_of<core::InputError>([] {
                    mixture({1e6, 1});
                  }),
                  "data.weights[1] = 1 gives counting");
}

}  // namespace
}  // namespace exactmamba::data
