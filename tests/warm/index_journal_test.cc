// The index journal, as its owner and as the process that reads what a killed one left.
#include "src/warm/index_journal.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <random>
#include <vector>

#include "tests/env/env_test_util.h"

namespace cairn {
namespace {

constexpr size_t kHeader = 4096;
constexpr size_t kSlot = 40;
// The last 64 of each half are kept for kForget.
constexpr size_t kSlots = (IndexJournal::kSmallestRegion - kHeader) / kSlot / 2 - 64;
constexpr size_t kStateAt = 32;
constexpr size_t kCountAt = 24;  // of half 0
constexpr std::array<uint8_t, 16> kStore = {1, 2, 3};

class JournalTest : public ::testing::Test {
 protected:
  std::span<std::byte> region() { return std::as_writable_bytes(std::span(words_)); }
  // As a new process would find it.
  std::unique_ptr<IndexJournal> Open() {
    auto journal = IndexJournal::Open(region(), kStore);
    EXPECT_TRUE(journal.ok()) << journal.status().ToString();
    return journal.ok() ? std::move(*journal) : nullptr;
  }
  // The second field of each entry that a new process finds, or the status.
  Result<std::vector<uint64_t>> Found() {
    auto journal = IndexJournal::Open(region(), kStore);
    if (!journal.ok()) return std::move(journal).status();
    std::vector<uint64_t> numbers;
    CAIRN_RETURN_IF_ERROR(
        (*journal)->Replay([&](const JournalEntry& entry) { numbers.push_back(entry.fields[1]); }));
    return numbers;
  }
  std::vector<uint64_t> MustFind() {
    auto found = Found();
    EXPECT_TRUE(found.ok()) << found.status().ToString();
    return found.ok() ? *found : std::vector<uint64_t>{};
  }
  static bool Append(IndexJournal& journal, uint64_t number) {
    return journal.Append(JournalEntry::Size(InodeId(9), number));
  }
  void Flip(size_t bit) { region()[bit / 8] ^= std::byte{1} << bit % 8; }

  std::vector<uint64_t> words_ = std::vector<uint64_t>(IndexJournal::kSmallestRegion / 8);
};

using Numbers = std::vector<uint64_t>;

TEST_F(JournalTest, EntriesComeBackInOrderAndWhole) {
  auto journal = Open();
  ASSERT_TRUE(journal->Append(
      JournalEntry::Blocks(BranchId(11), Epoch(12), ChunkIndex(13), 0xf00000000000000f)));
  ASSERT_TRUE(journal->Append(JournalEntry::Size(InodeId(21), 22)));
  ASSERT_TRUE(journal->Append(JournalEntry::Forget(InodeId(31), BranchId(32))));
  std::vector<JournalEntry> entries;
  ASSERT_TRUE(Open()->Replay([&](const JournalEntry& entry) { entries.push_back(entry); }).ok());
  ASSERT_EQ(entries.size(), 3u);
  const uint64_t expected[3][4] = {
      {11, 12, 13, 0xf00000000000000f}, {21, 22, 0, 0}, {31, 32, 0, 0}};
  const JournalKind kinds[3] = {JournalKind::kBlocks, JournalKind::kSize, JournalKind::kForget};
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(entries[i].kind, kinds[i]);
    EXPECT_EQ(std::memcmp(entries[i].fields, expected[i], sizeof(expected[i])), 0) << i;
  }
}

TEST_F(JournalTest, ANewRegionIsEmpty) {
  EXPECT_EQ(MustFind(), Numbers{});
  EXPECT_EQ(Open()->FillPercent(), 0);
}

TEST_F(JournalTest, ReplayReadsTheSealedHalfFirstWhicheverItIs) {
  auto journal = Open();
  ASSERT_TRUE(Append(*journal, 1));
  for (uint64_t n = 1; n < 6; ++n) {
    ASSERT_TRUE(journal->Seal());
    ASSERT_TRUE(Append(*journal, n + 1));
    EXPECT_EQ(MustFind(), (Numbers{n, n + 1}));
    journal->Release();
    EXPECT_EQ(MustFind(), Numbers{n + 1});
  }
}

TEST_F(JournalTest, SealsOnceUntilReleasedAndNeverAnEmptyHalf) {
  auto journal = Open();
  EXPECT_FALSE(journal->Seal());
  ASSERT_TRUE(Append(*journal, 1));
  EXPECT_TRUE(journal->Seal());
  EXPECT_TRUE(journal->has_sealed());
  ASSERT_TRUE(Append(*journal, 2));
  EXPECT_TRUE(journal->Seal());
  journal->Release();
  EXPECT_FALSE(journal->has_sealed());
  EXPECT_EQ(MustFind(), Numbers{2});
  EXPECT_TRUE(journal->Seal());
}

TEST_F(JournalTest, AFullHalfTakesNothingUntilAnotherBegins) {
  auto journal = Open();
  Numbers expected;
  for (uint64_t n = 0; n < kSlots; ++n) {
    ASSERT_TRUE(Append(*journal, n));
    expected.push_back(n);
  }
  EXPECT_EQ(journal->FillPercent(), 100);
  EXPECT_FALSE(Append(*journal, 9999));
  ASSERT_TRUE(journal->Seal());
  EXPECT_EQ(journal->FillPercent(), 0);
  for (uint64_t n = 0; n < kSlots; ++n) {
    ASSERT_TRUE(Append(*journal, kSlots + n));
    expected.push_back(kSlots + n);
  }
  EXPECT_FALSE(Append(*journal, 9999));
  EXPECT_TRUE(journal->Seal());
  EXPECT_FALSE(Append(*journal, 9999));
  EXPECT_EQ(MustFind(), expected);
  journal->Release();
  expected.erase(expected.begin(), expected.begin() + kSlots);
  EXPECT_EQ(MustFind(), expected);
  EXPECT_TRUE(journal->Seal());
  EXPECT_TRUE(Append(*journal, 1));
}

TEST_F(JournalTest, ClearForgetsBothHalvesAndGoesOn) {
  auto journal = Open();
  ASSERT_TRUE(Append(*journal, 1));
  ASSERT_TRUE(journal->Seal());
  ASSERT_TRUE(Append(*journal, 2));
  journal = Open();
  journal->Clear();
  EXPECT_EQ(MustFind(), Numbers{});
  ASSERT_TRUE(Append(*journal, 3));
  EXPECT_EQ(MustFind(), Numbers{3});
}

// Slots keep what earlier generations wrote; only 16 bits of the generation stand in them.
TEST_F(JournalTest, TwoHundredThousandGenerationsNeverMistakeAnOldSlot) {
  std::mt19937_64 random(3);
  auto journal = Open();
  uint64_t next = 1;
  Numbers expected;
  for (uint64_t generation = 1; generation <= 200'000; ++generation) {
    // Ever shallower ones now and then leave slots of every age behind them, for good.
    const bool deep = generation < 3 || generation % 997 == 0;
    const uint64_t count = deep ? kSlots - 3 * (generation / 997) : 1 + random() % 3;
    expected.clear();
    for (uint64_t i = 0; i < count; ++i) {
      ASSERT_TRUE(Append(*journal, next));
      expected.push_back(next++);
    }
    const auto found = Found();
    ASSERT_TRUE(found.ok()) << generation << ": " << found.status().ToString();
    ASSERT_EQ(*found, expected) << generation;
    ASSERT_TRUE(journal->Seal());
    journal->Release();
  }
}

TEST_F(JournalTest, AnEntryThatWasBeingWrittenIsPassedOver) {
  auto journal = Open();
  for (uint64_t n = 1; n <= 3; ++n) ASSERT_TRUE(Append(*journal, n));
  // What a kill within an append leaves: some of the fields, and no state.
  std::byte* slot = region().data() + kHeader + 3 * kSlot;
  std::memset(slot + kStateAt, 0, 8);
  slot[8] = std::byte{77};
  EXPECT_EQ(MustFind(), (Numbers{1, 2, 3}));
  // Whole, and not counted yet.
  ASSERT_TRUE(Append(*journal, 4));
  region()[kCountAt] = std::byte{3};
  EXPECT_EQ(MustFind(), (Numbers{1, 2, 3, 4}));
  // More than one that is not counted was not left by a kill.
  region()[kCountAt] = std::byte{2};
  EXPECT_EQ(CodeOf(Found()), Code::kCorrupt);
}

TEST_F(JournalTest, EachFlippedBitOfALiveSlotIsNoticed) {
  auto journal = Open();
  for (uint64_t n = 1; n <= 3; ++n) ASSERT_TRUE(Append(*journal, n));
  for (size_t slot = 0; slot < 3; ++slot) {
    for (size_t bit = 0; bit < kSlot * 8; ++bit) {
      Flip((kHeader + slot * kSlot) * 8 + bit);
      ASSERT_EQ(CodeOf(Found()), Code::kCorrupt) << slot << " " << bit;
      Flip((kHeader + slot * kSlot) * 8 + bit);
    }
  }
  EXPECT_EQ(MustFind(), (Numbers{1, 2, 3}));
}

TEST_F(JournalTest, AWipedSlotIsNoticed) {
  auto journal = Open();
  for (uint64_t n = 1; n <= 3; ++n) ASSERT_TRUE(Append(*journal, n));
  for (size_t slot = 0; slot < 3; ++slot) {
    const std::vector<uint64_t> before = words_;
    std::memset(region().data() + kHeader + slot * kSlot, 0, kSlot);
    EXPECT_EQ(CodeOf(Found()), Code::kCorrupt) << slot;
    words_ = before;
  }
}

TEST_F(JournalTest, EachFlippedBitOfAHalfsGenerationAndCountIsNoticedOrHarmless) {
  auto journal = Open();
  for (uint64_t n = 1; n <= 3; ++n) ASSERT_TRUE(Append(*journal, n));
  for (size_t bit = 0; bit < 64; ++bit) {
    Flip(kCountAt * 8 + bit);
    const auto found = Found();
    if (found.ok()) {
      EXPECT_EQ(*found, (Numbers{1, 2, 3})) << bit;
    } else {
      EXPECT_EQ(CodeOf(found), Code::kCorrupt) << bit;
    }
    Flip(kCountAt * 8 + bit);
  }
}

TEST_F(JournalTest, AnotherStoresJournalIsCorruptAndLeftAsItIs) {
  auto journal = Open();
  ASSERT_TRUE(Append(*journal, 1));
  const std::vector<uint64_t> before = words_;
  for (size_t byte = 0; byte < kStore.size(); ++byte) {
    auto other = kStore;
    other[byte] ^= 0x40;
    EXPECT_EQ(CodeOf(IndexJournal::Open(region(), other)), Code::kCorrupt);
  }
  for (size_t bit = 0; bit < 24 * 8; ++bit) {
    Flip(bit);
    EXPECT_EQ(CodeOf(Found()), Code::kCorrupt) << bit;
    Flip(bit);
  }
  EXPECT_EQ(words_, before);
  EXPECT_EQ(MustFind(), Numbers{1});
}

// Each page of a large journal that is touched costs a new server time.
TEST(JournalPages, OpeningReplayingAndClearingTouchOnlyWhatWasUsed) {
  constexpr size_t kPage = 4096;
  constexpr size_t kSize = 64u << 20;
  void* memory = mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  madvise(memory, kSize, MADV_NOHUGEPAGE);  // one touch would make 512 pages resident
  const std::span<std::byte> region(static_cast<std::byte*>(memory), kSize);
  for (int server = 0; server < 3; ++server) {
    auto journal = IndexJournal::Open(region, kStore);
    ASSERT_TRUE(journal.ok());
    ASSERT_TRUE((*journal)->Replay([](const JournalEntry&) {}).ok());
    (*journal)->Clear();
    ASSERT_TRUE((*journal)->Append(JournalEntry::Size(InodeId(9), 1)));
  }
  std::vector<unsigned char> resident(kSize / kPage);
  ASSERT_EQ(mincore(memory, kSize, resident.data()), 0);
  EXPECT_LT(std::count_if(resident.begin(), resident.end(), [](auto page) { return page & 1; }), 8);
  munmap(memory, kSize);
}

}  // namespace
}  // namespace cairn
