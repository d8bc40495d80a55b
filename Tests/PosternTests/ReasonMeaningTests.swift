import RecipientFilter
import Testing

@testable import RejectionReport

@Suite struct ReasonMeaningTests {
    @Test(arguments: Reason.allCases)
    func `every reason has a meaning that fits in the report's column`(_ reason: Reason) {
        let meaning = ReportWords.meaning(of: reason.name)
        #expect(!meaning.isEmpty)
        #expect(meaning.count <= 23)
    }
}
